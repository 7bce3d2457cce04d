import json
from typing import Any

import pytest

from sparseflow.errors import ConfigError
from sparseflow.ir.qspec import QSpec, QTensor

SPEC = QSpec(
    model={"d_model": 4},
    tensors={
        "act": QTensor(bits=8, scale=0.1, offset=-0.25),
        "w": QTensor(bits=4, scale=(0.1, 1 / 3)),
        "delta": QTensor(bits=16, scale=2.0**-16, signed=False),
    },
    note={"windows": 256},
)


def test_round_trip_keeps_every_bit() -> None:
    back = QSpec.from_json(SPEC.to_json())
    assert back == SPEC
    assert back["w"].scales[1] == 1 / 3
    assert back.to_json() == SPEC.to_json()
    assert back.digest == SPEC.digest


def test_the_note_is_no_part_of_the_content() -> None:
    assert QSpec(model=SPEC.model, tensors=SPEC.tensors).digest == SPEC.digest
    assert QSpec(model={"d_model": 5}, tensors=SPEC.tensors).digest != SPEC.digest


@pytest.mark.parametrize(("bits", "limit"), [(2, 1), (4, 7), (6, 31), (8, 127), (16, 32767), (25, 2**24 - 1)])
def test_signed_codes_are_symmetric(bits: int, limit: int) -> None:
    assert QTensor(bits=bits, scale=1.0).limit == limit


@pytest.mark.parametrize(
    "wrong",
    [
        {"bits": 1}, {"bits": 49}, {"bits": 8.0}, {"scale": 0.0}, {"scale": float("nan")}, {"scale": (1.0, -1.0)},
        {"scale": "1"}, {"offset": float("inf")}, {"rounding": "truncate"}, {"saturation": False},
    ],
)  # fmt: skip
def test_wrong_fields_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        QTensor(**({"bits": 8, "scale": 1.0} | wrong))


def change(**given: Any) -> str:
    return json.dumps(json.loads(SPEC.to_json()) | given)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "no QSpec"),
        (change(kind="plan"), "no QSpec"),
        (change(schema=2), "schema"),
        (change(arithmetic="q8.8"), "arithmetic"),
        (change(tensors={}), "names no tensor"),
        (change(tensors=[]), "mapping"),
        (change(tensors={"act": {"bits": 8}}), "'act'"),
        (change(tensors={"act": {"bits": 8, "scale": 1.0, "zero": 3}}), "'act'"),
        (change(tensors={"act": {"bits": 8, "scale": -1.0}}), "'act'"),
        (change(model=3), "mapping"),
    ],
)
def test_wrong_files_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        QSpec.from_json(text)


def test_a_name_that_is_not_there_is_said() -> None:
    with pytest.raises(ConfigError, match="'elsewhere'"):
        SPEC["elsewhere"]
    with pytest.raises(ConfigError, match="2 scales"):
        _ = SPEC["w"].step
