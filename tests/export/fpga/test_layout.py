"""Tiles and words of factors."""

import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.layout import factor_words, tile, untile
from sparseflow.ops.fixed_point import Factor, factor


@pytest.mark.parametrize("shape", [(1, 1), (8, 8), (17, 3), (30, 100)])
@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (2, 4)])
def test_tiles_come_back(shape, rows, columns):
    weight = np.random.default_rng(0).integers(-127, 128, shape)
    tiles = tile(weight, rows, columns)
    assert tiles.shape == (-(-shape[0] // rows) * -(-shape[1] // columns), rows * columns)
    assert np.array_equal(untile(tiles, shape, rows, columns), weight)
    assert np.abs(tiles.astype(int)).sum() == np.abs(weight).sum()


def test_a_weight_of_minus_128_is_refused():
    with pytest.raises(ConfigError, match="-127 to 127"):
        tile(np.array([[-128]]))


def test_words():
    words = factor_words(np.array([-2, 5, 7]), factor([0.75, -1.0, 0.0]), rows=4, lanes=2)
    assert words.shape == (2, 18)
    assert words[0, :9].tobytes() == (-2).to_bytes(4, "little", signed=True) + (3 << 29).to_bytes(4, "little") + b"\x1f"
    assert words[0, 13:17].tobytes() == (-(1 << 30)).to_bytes(4, "little", signed=True)
    assert not words[1, 9:].any()


def test_factors_that_do_not_fit_are_refused():
    one = np.array([1])
    with pytest.raises(ConfigError, match="one length"):
        factor_words(np.array([1, 2]), Factor(multiplier=one, shift=one))
    with pytest.raises(ConfigError, match="bias has more than 32 bits"):
        factor_words(np.array([2**31]), Factor(multiplier=one, shift=one))
    with pytest.raises(ConfigError, match="from 1 to 62"):
        factor_words(one, Factor(multiplier=one, shift=np.array([63])))
