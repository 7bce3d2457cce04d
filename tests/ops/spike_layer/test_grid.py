"""Weights as int8: what lies on a grid stays, what does not is rounded to the nearest point."""

import pytest
import torch

from sparseflow.ops.spike_layer import grid_exact
from sparseflow.ops.spike_layer._grid import LEVELS, quantise
from tests.ops.spike_layer.test_reference import noise


def whole(*shape, most=LEVELS, seed=0):
    return torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


@pytest.mark.parametrize("most", [1, 2, 5, 63, 64, 127])
def test_powers_of_two_are_found_exactly(most):
    steps = torch.tensor([2.0**-30, 2.0**-7, 1.0, 8.0]).reshape(4, 1, 1, 1)
    k = whole(4, 9, 3, 3, most=most)
    grid = quantise([k * steps], [1])
    assert grid.exact.all()
    assert torch.equal(grid.weights()[0], k * steps)
    assert all(s in (2.0**e for e in range(-30, 11)) for s in grid.scale.tolist())


@pytest.mark.parametrize("most", [1, 3, 100, 127])
def test_any_other_grid_is_found_through_two_roundings(most):
    k = whole(40, 16, 3, 3, most=most, seed=1)
    step, fold = (torch.rand(40, 1, 1, 1, generator=torch.Generator().manual_seed(s)) + 0.01 for s in (2, 3))
    w = (k * step) * fold
    grid = quantise([w], [1])
    assert grid.exact.all()
    assert grid_exact([w])
    error = (grid.weights()[0] - w).abs()
    assert (error <= 2.0**-22 * w.abs()).all()


def test_other_weights_are_rounded_to_the_nearest_of_255_levels():
    w = noise(33, 40, 3, 3)
    grid = quantise([w], [1])
    assert not grid.exact.any()
    assert not grid_exact([w])
    assert (grid.weights()[0] - w).abs().amax() <= w.abs().amax() / LEVELS / 2 * (1 + 1e-6)
    assert grid.whole[0].abs().amax() == LEVELS


def test_one_weight_beside_the_grid_is_enough():
    w = whole(3, 20, 3, 3)
    w[0, 0, 0, 0] = 127
    assert grid_exact([w])
    w[1, 7, 2, 2] += 2.0**-12
    assert quantise([w], [1]).exact.tolist() == [True, False, True]
    assert not grid_exact([w])
    w[1, 7, 2, 2] = 128.5
    assert not grid_exact([w])


def test_sources_share_a_scale():
    a, b = whole(5, 8, 3, 3, most=50), whole(5, 4, 1, 1, most=50, seed=1)
    grid = quantise([a / 4, b / 2], [1, 2])
    assert grid.exact.all()
    assert [torch.equal(*pair) for pair in zip(grid.weights(), [a / 4, b / 2], strict=True)] == [True, True]
    assert grid.largest == int((a.abs().sum((1, 2, 3)) + 3 * (2 * b).abs().sum((1, 2, 3))).max())
    assert not grid_exact([a / 4, b / 3])


def test_zeros_one_weight_none_and_no_number():
    assert grid_exact([torch.zeros(3, 2, 1, 1)])
    assert quantise([torch.zeros(3, 2, 1, 1)], [1]).scale.tolist() == [1, 1, 1]
    assert grid_exact([noise(7, 1, 1, 1)])
    assert grid_exact([torch.zeros(3, 0, 1, 1)])
    assert quantise([torch.zeros(0, 2, 1, 1)], [1]).largest == 0
    assert not grid_exact([torch.tensor([float("nan"), 1.0]).reshape(1, 2, 1, 1)])


def test_sums_beyond_float32_are_not_exact():
    w = torch.full((1, 1000, 1, 1), 127.0)
    assert grid_exact([w], [7])
    assert not grid_exact([w], [8])
    assert not grid_exact([torch.ones(1, 1, 1, 1)], [9])
