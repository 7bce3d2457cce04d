"""The result file: the seed's bytes, reading what the seed wrote, and errors that name file, layer and mend."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from sparseflow.compress.approximate.result import FOLDER, Metrics, TriSegResult, eval_report
from sparseflow.errors import ConfigError, DataError

NAMES = ("conv1", "fc1")
KEYS = ("t1_code", "v1_code", "t2_code", "v2_code", "tmax_code")
CODES = torch.tensor([[7, 14, 21, 28, 35], [8, 16, 24, 32, 40]])

# The seed's own example, its keys in its order, with two of the seven layers.
SEED = """{
  "layers": {
    "conv1": {
      "t1_code": 7,
      "v1_code": 14,
      "t2_code": 21,
      "v2_code": 28,
      "tmax_code": 35
    },
    "fc1": {
      "t1_code": 8,
      "v1_code": 16,
      "t2_code": 24,
      "v2_code": 32,
      "tmax_code": 40
    }
  },
  "backend": "fbgemm",
  "model": "alexnet",
  "selection": "constrained-best (drop=1.5% <= 2.0%)",
  "metrics": {
    "acc_teacher": 92.5,
    "acc_student": 91.0,
    "acc_drop": 1.5
  }
}"""
OURS = """,
  "schema_version": 1,
  "overflow": "pass",
  "split": "val"
}
"""


def made(**fields: Any) -> TriSegResult:
    rest = {
        "backend": "fbgemm",
        "model": "alexnet",
        "selection": "constrained-best (drop=1.5% <= 2.0%)",
        "metrics": Metrics.of(92.5, 91.0),
        "split": "val",
    }
    return TriSegResult.of(NAMES, CODES, **(rest | fields))


@pytest.fixture
def seed_file(tmp_path: Path) -> Path:
    path = tmp_path / "alexnet_exp1.json"
    path.write_text(SEED)
    return path


def spoilt(path: Path, **changes: Any) -> Path:
    """Write the seed's file with keys changed; `layers__fc1__t1_code=9` reaches into it, None removes."""
    body = json.loads(SEED)
    for key, value in changes.items():
        *outer, last = key.split("__")
        inside = body
        for part in outer:
            inside = inside[part]
        if value is None:
            del inside[last]
        else:
            inside[last] = value
    path.write_text(json.dumps(body))
    return path


def test_the_bytes_are_the_seeds_and_then_ours() -> None:
    assert made().to_json() == SEED.removesuffix("\n}") + OURS


def test_there_and_back(tmp_path: Path) -> None:
    for result in (made(), made(overflow="clip", split=None)):
        path = result.write(tmp_path / FOLDER / "exp.json")
        assert path.read_text() == result.to_json()
        assert TriSegResult.read(path, names=NAMES, model="alexnet") == result
    assert [p.name for p in path.parent.iterdir()] == ["exp.json"]


def test_the_seeds_file_is_read(seed_file: Path) -> None:
    found = TriSegResult.read(seed_file, names=NAMES, model="alexnet")
    assert found == made(split=None)
    assert torch.equal(found.codes(), CODES)
    assert torch.equal(found.codes(["fc1"]), CODES[1:])
    assert found.codes([]).shape == (0, 5)
    with pytest.raises(ConfigError, match="no layers conv9; it has conv1, fc1"):
        found.codes(["conv9"])


def test_notes_in_a_file_are_left_alone(tmp_path: Path) -> None:
    assert TriSegResult.read(spoilt(tmp_path / "x.json", note="mine")) == made(split=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers__fc1__t1_code": 25}, "layer 'fc1': t1_code 25 is above t2_code 24; expected t1 <= t2 <= tmax"),
        ({"layers__fc1__t2_code": 41}, "layer 'fc1': t2_code 41 is above tmax_code 40"),
        ({"layers__fc1__v1_code": 33}, "layer 'fc1': v1_code 33 is above v2_code 32"),
        ({"layers__fc1__v2_code": 41}, "layer 'fc1': v2_code 41 is above tmax_code 40"),
        ({"layers__fc1__v2_code": 300}, r"layer 'fc1': codes are \(8, 16, 24, 300, 40\); expected .* 0 to 255"),
        ({"layers__fc1__t1_code": 8.0}, "layer 'fc1': codes are"),
        ({"layers__fc1__t1_code": True}, "layer 'fc1': codes are"),
        ({"layers__fc1__t1_code": "8"}, "layer 'fc1': codes are"),
        ({"layers__fc1__v2_code": None}, "layer 'fc1' has no v2_code; expected the keys t1_code, v1_code"),
        ({"layers__fc1__t3_code": 30}, "layer 'fc1' has t3_code; expected the keys .* alone"),
        ({"layers__fc1": 5}, "layer 'fc1' is no object"),
        ({"layers__fc1": None}, "no layer 'fc1', which the network has; search all its sites"),
        ({"layers__fc3": dict.fromkeys(KEYS, 1)}, "layer 'fc3' is no site of the network"),
        ({"layers": {}}, "a result holds no layers"),
        ({"layers": None}, "no 'layers'; search again, or mend the file by hand"),
        ({"layers": [1]}, "no object under 'layers'"),
        ({"backend": None}, "no 'backend'"),
        ({"selection": 3}, "no text under 'selection'"),
        ({"model": "vgg16"}, "it is for model 'vgg16', not 'alexnet'"),
        ({"metrics": None}, "no 'metrics'"),
        ({"metrics__acc_drop": None}, "no 'metrics.acc_drop'"),
        ({"metrics__acc_drop": "1.5"}, "no number under 'metrics.acc_drop'"),
        ({"metrics__acc_drop": float("nan")}, "no number under 'metrics.acc_drop'"),
        ({"schema_version": 2}, "schema_version is 2; this version reads 1, so update sparseflow"),
        ({"overflow": "wrap"}, "overflow is 'wrap'; expected one of pass, clip"),
    ],
)
def test_a_file_that_does_not_fit_is_named_with_its_mend(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = spoilt(tmp_path / "bad.json", **changes)
    with pytest.raises(DataError, match=f"^{path}: {message}"):
        TriSegResult.read(path, names=NAMES, model="alexnet")


def test_a_misspelt_layer_gets_a_hint(tmp_path: Path) -> None:
    body = json.loads(SEED)
    body["layers"]["fcl"] = body["layers"].pop("fc1")
    path = tmp_path / "x.json"
    path.write_text(json.dumps(body))
    with pytest.raises(DataError, match=r"layer 'fcl' is no site of the network; did you mean 'fc1'\? there are"):
        TriSegResult.read(path, names=NAMES)


def test_a_layer_that_stands_twice_is_named(seed_file: Path) -> None:
    seed_file.write_text(SEED.replace('"fc1"', '"conv1"'))
    with pytest.raises(DataError, match=r"alexnet_exp1.json is no valid JSON: 'conv1' stands twice"):
        TriSegResult.read(seed_file)


def test_no_such_file_or_no_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*none.json: No such file.*; name a result of a search"):
        TriSegResult.read(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot read"):
        TriSegResult.read(tmp_path)
    for text in (b"{", b"\xff\xfe", b""):
        (tmp_path / "x.json").write_bytes(text)
        with pytest.raises(DataError, match=r"x.json is no valid JSON: .*; search again"):
            TriSegResult.read(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(DataError, match="holds no JSON object"):
        TriSegResult.read(tmp_path / "x.json")


def test_an_interrupted_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made().write(tmp_path / "x.json")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        made(model="vgg16").write(path)
    assert TriSegResult.read(path).model == "alexnet"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(DataError, match=r"cannot make the folder .*taken"):
        made().write(tmp_path / "taken" / "x.json")


def test_codes_that_are_not_for_these_sites() -> None:
    with pytest.raises(ConfigError, match=r"codes \(1, 5\) do not fit the 2 sites conv1, fc1"):
        TriSegResult.of(NAMES, CODES[:1])
    wrong = CODES.clone()
    wrong[1, 0] = 30
    with pytest.raises(ConfigError, match="layer 'fc1': t1_code 30 is above t2_code 24"):
        TriSegResult.of(NAMES, wrong, backend="", model="", selection="", metrics=Metrics.of(1, 1))


def test_the_drop_holds_no_binary_dust() -> None:
    assert Metrics.of(92.53, 91.01).acc_drop == 1.52
    assert Metrics.of(90.0, 90.5).acc_drop == -0.5


def test_evaluation_report() -> None:
    text = eval_report(made(), "outputs/x.json", Metrics.of(92.4, 90.9))
    body = json.loads(text)
    assert list(body) == [
        "model",
        "config_path",
        "backend",
        "acc_baseline",
        "acc_modified",
        "acc_drop",
        "selection",
        "metrics_in_config",
    ]
    assert (body["acc_baseline"], body["acc_modified"], body["acc_drop"]) == (92.4, 90.9, 1.5)
    assert body["metrics_in_config"] == {"acc_teacher": 92.5, "acc_student": 91.0, "acc_drop": 1.5}
