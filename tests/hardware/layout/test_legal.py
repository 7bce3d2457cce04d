import numpy as np
import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.hardware.layout.legal import is_legal, legalise_mm

WAFER = {"radius_mm": 147.0, "gap_mm": 0.5}


def dies(count, seed, largest=24.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(5, largest, count), rng.uniform(5, largest, count), rng


@pytest.mark.parametrize("count", [1, 2, 7, 25, 60])
@pytest.mark.parametrize("spread", [0.0, 15.0, 400.0])
def test_any_layout_becomes_legal(count, spread):
    widths, heights, rng = dies(count, count)
    pos = legalise_mm(spread * rng.standard_normal((count, 2)), widths, heights, **WAFER)
    assert is_legal(pos, widths, heights, **WAFER)


def test_a_legal_layout_stays():
    pos, side = np.array([[0.0, 0.0], [20.5, 3.0]]), np.array([20.0, 20.0])
    np.testing.assert_array_equal(legalise_mm(pos, side, side, **WAFER), pos)


def test_a_slight_overlap_is_mended_by_a_slight_move():
    pos, side = np.array([[0.0, 0.0], [19.0, 1.0], [60.0, 0.0]]), np.array([20.0, 20.0, 20.0])
    mended = legalise_mm(pos, side, side, **WAFER)
    assert np.abs(mended - pos).max() == pytest.approx(1.5, abs=1e-5)


def test_a_full_disc_is_packed():
    widths, heights, rng = dies(30, 5, largest=34.0)
    radius = 1.25 * np.sqrt((widths * heights).sum() / np.pi)
    pos = legalise_mm(rng.standard_normal((30, 2)), widths, heights, radius_mm=radius, gap_mm=0.1)
    assert is_legal(pos, widths, heights, radius_mm=radius, gap_mm=0.1)


def test_what_cannot_fit_is_refused():
    side = np.full(3, 20.0)
    with pytest.raises(UnsupportedError, match="3 dies of 1200 mm2"):
        legalise_mm(np.zeros((3, 2)), side, side, radius_mm=18.0)


def test_empty_slots_are_in_nobodys_way():
    widths = np.array([20.0, 0.0, 20.0])
    pos = np.zeros((3, 2))
    placed = legalise_mm(pos, widths, widths, **WAFER)
    np.testing.assert_array_equal(placed[1], [0.0, 0.0])
    assert is_legal(placed, widths, widths, **WAFER)


@pytest.mark.parametrize(("x", "legal"), [(20.0, True), (19.999, False), (137.0, False), (136.6, True), (0.0, False)])
def test_legal_is_exact(x, legal):
    side = np.array([20.0, 20.0])
    assert is_legal(np.array([[0.0, 0.0], [x, 0.0]]), side, side, radius_mm=147.0) is legal
