"""The block rule of the earlier project, and the rule of measured times."""

import pytest

from sparseflow.compress.sparsify.policy import check_policy, choose_kernel, select_block_size
from sparseflow.errors import ConfigError


@pytest.mark.parametrize(
    ("size", "block"),
    [((32, 32), 16), ((56, 33), 16), ((31, 99), 8), ((16, 16), 8), ((15, 15), 4), ((8, 8), 4), ((7, 64), None)],
)
def test_block_rule(size: tuple[int, int], block: int | None) -> None:
    assert select_block_size(*size) == block


def test_fastest_beyond_the_margin() -> None:
    assert choose_kernel({"dense": 1.0, "event": 0.97, "amx": 0.98}, margin=0.02) == "event"
    assert choose_kernel({"dense": 1.0, "event": 0.97}, margin=0.1) == "dense"
    assert choose_kernel({"dense": 1.0}, margin=0.0) == "dense"
    assert choose_kernel({"event": 9.0}, margin=0.0) == "event"
    assert choose_kernel({"dense": 1.0, "event": 0.5, "amx": 0.1}, margin=0.0, among=("event",)) == "event"


def test_unknown_policy() -> None:
    assert check_policy("block") == "block"
    with pytest.raises(ConfigError, match="'fastest'; expected one of measured, block, always"):
        check_policy("fastest")
