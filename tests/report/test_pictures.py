import io

import numpy as np
import pytest
from PIL import Image

from sparseflow.errors import DataError
from sparseflow.report.pictures import heat_png, image_png, maps_png


def _open(png):
    return np.asarray(Image.open(io.BytesIO(png)))


def test_an_image_survives():
    pixels = np.random.default_rng(0).integers(0, 256, (3, 5, 7), dtype=np.uint8)
    np.testing.assert_array_equal(_open(image_png(pixels)), pixels.transpose(1, 2, 0))
    np.testing.assert_array_equal(_open(image_png(pixels[:1])), pixels[0])


def test_spikes_show_the_first_channels_in_order():
    maps = np.zeros((16, 16, 16), np.float32)
    maps[1, 2, 3] = 1
    alpha = _open(maps_png(maps))[..., 3]
    assert alpha.shape == (3 * 17 - 1, 3 * 17 - 1)
    assert np.argwhere(alpha).tolist() == [[2, 17 + 3]]


def test_other_numbers_are_grey_and_fade():
    picture = _open(maps_png(np.array([[[1.0, -0.5, 0.0]]], np.float32), spikes=False))
    assert picture[0, :, 3].tolist() == [255, 127, 0]
    assert np.ptp(picture[0, 0, :3]) < 40


def test_features_become_a_square_and_silence_stays_clear():
    assert _open(maps_png(np.ones(10, np.float32))).shape == (4, 4, 4)
    assert _open(maps_png(np.zeros((1, 4, 4), np.float32)))[..., 3].max() == 0


@pytest.mark.parametrize("shape", [(2, 3), (0,), (0, 4, 4)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(DataError, match="maps are"):
        maps_png(np.zeros(shape, np.float32))


def test_an_image_of_floats_is_refused():
    with pytest.raises(DataError, match="float32"):
        image_png(np.zeros((3, 2, 2), np.float32))


def test_heat_is_bright_where_it_is_hot():
    picture = _open(heat_png(np.array([[0.0, 1.0], [0.5, 0.0]], np.float32))).astype(int).sum(-1)
    assert picture[0, 1] > picture[1, 0] > picture[0, 0] == picture[1, 1]
    with pytest.raises(DataError):
        heat_png(np.zeros((2, 2, 2), np.float32))
