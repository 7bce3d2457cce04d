"""The rule that "auto" follows."""

import pytest

from sparseflow.ops.conv2d_spike.space import CROSSOVER_BITS, CROSSOVER_VALUES, choose


@pytest.mark.parametrize(("binary", "crossover"), [(True, CROSSOVER_BITS), (False, CROSSOVER_VALUES)])
def test_auto_changes_at_the_crossover(binary, crossover):
    assert choose(0.0, binary) == choose(crossover * 0.99, binary) == "event"
    assert choose(crossover, binary) == choose(1.0, binary) == "dense"


def test_tiles_run_where_the_weight_is_packed_for_them():
    assert choose(0.01, True, "amx") == choose(1.0, True, "amx") == "amx"
    assert choose(0.01, False, "amx") == "event"
    assert choose(1.0, False, "amx") == "dense"
