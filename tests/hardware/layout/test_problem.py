import dataclasses

import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout import LayoutProblem


def problem(**more):
    fields = {
        "widths_mm": np.array([20.0, 0.0, 10.0]),
        "heights_mm": np.array([10.0, 0.0, 10.0]),
        "traffic_bytes": np.array([[0.0, 0.0, 6.0], [0.0, 0.0, 0.0], [2.0, 0.0, 0.0]]),
        "power_w": np.array([50.0, 0.0, 30.0]),
    }
    return LayoutProblem(**fields | more)


POS = np.array([[0.0, 0.0], [50.0, 50.0], [30.0, 40.0]])


def test_cost_is_communication_over_its_scale_where_nothing_can_be_hot():
    p = problem()
    assert not p.may_be_hot
    assert p.comm_byte_mm(POS) == pytest.approx(8 * 50)
    assert p.cost(POS) == pytest.approx(8 * 50 / (8 * 147 / 2))


def test_heat_above_the_limit_costs():
    hot = problem(power_w=np.array([500.0, 0.0, 30.0]), t_limit_c=40.0)
    over = hot.t_max_c(POS) - 40.0
    assert hot.may_be_hot
    assert over > 0
    assert hot.cost(POS) == pytest.approx(hot.comm_byte_mm(POS) / hot.scale_byte_mm + 0.01 * over**2)


def test_no_layout_is_hotter_than_the_bound_that_rules_heat_out():
    # Six dies of one flux, all at one point but for the bound's assumption that they lie apart.
    p = problem()
    flux_k = 1e6 * 50 / 200 / p.plate.cooling_w_per_m2_k
    assert p.t_max_c(POS) - p.plate.ambient_c <= max(flux_k, 1e6 * 30 / 100 / p.plate.cooling_w_per_m2_k)


def test_empty_slots_are_left_out():
    there = problem().present()
    assert there.there.tolist() == [True, True]
    np.testing.assert_array_equal(there.traffic_bytes, [[0.0, 6.0], [2.0, 0.0]])
    empty = problem(widths_mm=np.zeros(3))
    assert empty.t_max_c(POS) == empty.plate.ambient_c
    assert not empty.may_be_hot


def test_silence_costs_nothing():
    assert problem(traffic_bytes=np.zeros((3, 3))).cost(POS) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("power_w", np.zeros(2)), ("traffic_bytes", np.zeros(3)), ("heights_mm", np.array([1.0, -1.0, 1.0])),
     ("power_w", np.array([np.nan, 0.0, 0.0]))],
)  # fmt: skip
def test_faults_are_named(key, value):
    with pytest.raises(ConfigError, match=key):
        dataclasses.replace(problem(), **{key: value})
