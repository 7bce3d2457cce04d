from typing import Any

import pytest

from sparseflow.errors import ConfigError
from sparseflow.ir import BINARY, FLOAT16, FLOAT32, INT8, Precision


def test_names_and_bytes() -> None:
    assert [p.name for p in (FLOAT32, FLOAT16, INT8, BINARY)] == ["float32", "float16", "int8", "binary"]
    assert [p.bytes for p in (FLOAT32, FLOAT16, INT8, BINARY)] == [4, 2, 1, 1 / 8]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "complex", "bits": 8}, "kind is 'complex'; expected one of float"),
        ({"kind": "int", "bits": 0}, "bits is 0; expected 1 to 64"),
        ({"kind": "int", "bits": 65}, "bits is 65"),
        ({"kind": "int", "bits": 8, "rounding": "up"}, "rounding is 'up'; expected one of nearest_even"),
        ({"kind": "int", "bits": 8, "scale": 0.0}, "scale is 0.0; expected a positive number"),
        ({"kind": "int", "bits": 8, "scale": float("nan")}, "scale is nan"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Precision(**given)
