import io

import numpy as np
import pytest
from PIL import Image

from sparseflow.errors import DataError
from sparseflow.report.video_pictures import kept_frames, moving_png, score_frames, strip_png


def clip(frames=4, channels=1):
    return np.full((frames, channels, 8, 16), 200, np.uint8)


def test_kept_patches_are_as_they_were_and_dropped_ones_dimmed():
    kept = np.zeros((2, 2, 4), bool)
    kept[0, 0, 1] = kept[1] = True
    frames = kept_frames(clip(), kept, side=32)
    assert len(frames) == 4
    assert frames[0].shape == (16, 32, 3)
    # Two frames share a time; a patch is 4×4, drawn twice as large.
    for frame in frames[:2]:
        bright = (frame == 200).all(-1)
        assert bright[0:8, 8:16].all()
        assert bright.sum() == 64
    assert all((frame == 200).all() for frame in frames[2:])
    assert frames[0][15, 0].max() < 120


@pytest.mark.parametrize("channels", [1, 3, 15])
def test_any_channels_become_a_picture(channels):
    frames = kept_frames(clip(2, channels), np.ones((2, 2, 2), bool))
    with Image.open(io.BytesIO(strip_png(frames))) as picture:
        assert picture.size == (2 * 128 + 2, 64)
    with Image.open(io.BytesIO(moving_png(kept_frames(clip(3), np.array([[[1]], [[0]], [[1]]], bool))))) as picture:
        assert (picture.n_frames, picture.size) == (3, (128, 64))


def test_scores_run_from_dark_to_bright():
    score = np.array([[[0.0, 1.0]], [[0.5, 0.25]]], np.float32)
    frames = score_frames(score, 4, (2, 4), side=4)
    assert len(frames) == 4
    assert frames[0][0, 0].sum() < frames[2][0, 3].sum() < frames[2][0, 0].sum() < frames[0][0, 3].sum()
    flat = score_frames(np.ones((1, 1, 1), np.float32), 1, (2, 2))
    assert np.unique(flat[0].reshape(-1, 3), axis=0).shape == (1, 3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(DataError, match="no grid of 3"):
        kept_frames(clip(), np.ones((3, 2, 2), bool))
    with pytest.raises(DataError, match="uint8"):
        kept_frames(clip().astype(np.float32), np.ones((2, 2, 2), bool))
