import numpy as np
import pytest
import torch

from sparseflow.hardware.layout import LayoutProblem
from sparseflow.hardware.layout.heat_table import HeatTable


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(1)
    return LayoutProblem(
        widths_mm=np.array([20.0, 12.0, 20.0, 8.0]),
        heights_mm=np.array([20.0, 16.0, 20.0, 25.0]),
        traffic_bytes=np.zeros((4, 4)),
        power_w=rng.uniform(50, 200, 4),
    )


@pytest.fixture(scope="module")
def table(problem):
    return HeatTable(problem, step_mm=1.0)


def layouts(count):
    return torch.as_tensor(np.random.default_rng(2).uniform(-80, 80, (count, 4, 2)))


def test_it_agrees_with_the_model(problem, table):
    pos = layouts(6)
    sizes = (problem.tensor(k) for k in ("widths_mm", "heights_mm", "power_w"))
    expected = problem.plate.rise_k(pos, pos, *sizes, edge=False)
    torch.testing.assert_close(table.rise_k(pos), expected, rtol=5e-3, atol=0.05)
    assert len(table.table) == 3


def test_far_away_nothing_is_left(table):
    far = torch.tensor([[5e3, 0.0]], dtype=torch.float64)
    assert table.given_k(far, torch.tensor([0])).item() == pytest.approx(0, abs=1e-2)


def test_moving_two_dies_or_one_gives_the_rises_of_the_new_layouts(table):
    old, new = layouts(5), layouts(5)
    first, second = torch.tensor([0, 1, 2, 3, 1]), torch.tensor([2, 0, 2, 3, 3])
    rows = torch.arange(5)
    moved = old.clone()
    for die in (first, second):
        moved[rows, die] = new[4 - rows, die]
    found = table.moved(table.rise_k(old), old, moved, first, second)
    torch.testing.assert_close(found, table.rise_k(moved))


def test_its_slope_is_that_of_finite_differences(table):
    pos = layouts(2).requires_grad_()
    assert torch.autograd.gradcheck(table.rise_k, (pos,))
