import math

import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout.finite_difference import PlateGrid
from sparseflow.hardware.layout.thermal import Plate


@pytest.fixture(scope="module")
def grid():
    return PlateGrid(Plate(radius_mm=60.0), cell_mm=1.0)


def test_all_heat_reaches_the_coolant(grid):
    rise = grid.rise_k(np.array([[3.3, -7.1], [20.0, 15.0]]), [21.0, 8.0], [10.0, 17.0], np.array([90.0, 40.0]))
    given = np.nansum(rise) * grid.plate.cooling_w_per_m2_k * (grid.cell_mm * 1e-3) ** 2
    assert given == pytest.approx(130.0)
    assert np.nanmin(rise) >= 0


def test_no_heat_and_dies_without_area_leave_it_cold(grid):
    rise = grid.rise_k(np.zeros((2, 2)), [5.0, 0.0], [5.0, 0.0], np.array([0.0, 30.0]))
    assert np.nanmax(np.abs(rise)) == 0


@pytest.mark.parametrize("at", [(0.0, 0.0), (31.0, 12.0), (38.0, -20.0)])
def test_the_closed_model_agrees_in_the_middle_and_at_the_rim(grid, at):
    pos = np.array([at, [-15.0, 10.0]])
    widths, heights, power = np.array([20.0, 25.0]), np.array([16.0, 12.0]), np.array([150.0, 120.0])
    solved = np.nanmax(grid.rise_k(pos, widths, heights, power))
    closed = grid.plate.t_max_c(*(torch.as_tensor(x) for x in (pos, widths, heights, power))).item()
    assert closed - grid.plate.ambient_c == pytest.approx(solved, rel=0.03)


def test_finer_cells_change_little(grid):
    finer = PlateGrid(grid.plate, cell_mm=0.7)
    load = (np.array([[5.0, 5.0]]), [20.0], [20.0], np.array([100.0]))
    assert np.nanmax(finer.rise_k(*load)) == pytest.approx(np.nanmax(grid.rise_k(*load)), rel=5e-3)


@pytest.mark.parametrize("cell_mm", [0.0, 60.0, math.nan])
def test_cells_that_cannot_be_are_refused(cell_mm):
    with pytest.raises(ConfigError, match="cells"):
        PlateGrid(Plate(radius_mm=60.0), cell_mm=cell_mm)
