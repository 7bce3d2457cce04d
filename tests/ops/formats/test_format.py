import json

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops.formats import Format, Level, Reorder, csr, sell
from tests.ops.formats.matrices import FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_survives_json(name: str) -> None:
    fmt = FORMATS[name]
    again = Format.from_json(fmt.to_json())
    assert again == fmt
    assert again.key == fmt.key
    assert " " not in fmt.to_json()


def test_keys_tell_formats_apart() -> None:
    assert len({fmt.key for fmt in FORMATS.values()}) == len(FORMATS)
    assert csr().key != csr(bits=16).key != csr(bits=16, delta=True).key


@pytest.mark.parametrize(
    "change",
    [{"axis": "j"}, {"axis": "i", "kind": "list"}, {"axis": "i", "bits": 8}, {"axis": "i", "delta": 1}],
)
def test_levels_are_checked(change: dict) -> None:
    with pytest.raises(ConfigError, match="Level"):
        Level(**change)


def test_sizes_and_orders_are_checked() -> None:
    with pytest.raises(ConfigError, match="rows_inner"):
        Format(levels=(), rows_inner=0)
    with pytest.raises(ConfigError, match="columns_inner"):
        Format(levels=(), columns_inner=5000)
    with pytest.raises(ConfigError, match="rule"):
        Reorder(rule="random")
    with pytest.raises(ConfigError, match="window"):
        Reorder(rule="rcm", window=4)


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"levels": [{"axis": "i", "width": 3}]}', '{"levels": 3}', "{}"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="to_json"):
        Format.from_json(text)


def test_inner_sizes_by_axis() -> None:
    assert sell(8).inner("i1") == 8
    assert sell(8).inner("k1") == 1
    assert json.loads(sell(8, 4).to_json())["rows"] == {"rule": "length", "window": 4}
