import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout.grid import grid_mm
from sparseflow.hardware.layout.legal import is_legal


@pytest.mark.parametrize("dies", [1, 2, 3, 4, 5, 16, 30])
def test_a_grid_is_legal_and_in_rows_from_the_top(dies):
    rng = np.random.default_rng(dies)
    widths, heights = rng.uniform(5, 25, dies), rng.uniform(5, 25, dies)
    pos = grid_mm(widths, heights, radius_mm=147.0, gap_mm=0.5)
    assert is_legal(pos, widths, heights, radius_mm=147.0, gap_mm=0.5)
    order = np.lexsort((pos[:, 0], -pos[:, 1]))
    assert order.tolist() == list(range(dies))


def test_four_dies_lie_around_the_middle():
    side = np.full(4, 10.0)
    pos = grid_mm(side, side, radius_mm=50.0, gap_mm=1.0)
    np.testing.assert_allclose(pos, [[-5.5, 5.5], [5.5, 5.5], [-5.5, -5.5], [5.5, -5.5]])


def test_a_disc_that_is_too_small_is_refused():
    side = np.full(5, 10.0)
    with pytest.raises(ConfigError, match=r"5 dies of up to 10\.0 x 10\.0 mm"):
        grid_mm(side, side, radius_mm=15.0, gap_mm=0.0)


def test_empty_slots_have_cells():
    pos = grid_mm(np.zeros(6), np.zeros(6), radius_mm=10.0, gap_mm=1.0)
    assert len(np.unique(pos, axis=0)) == 6
