import pytest

from sparseflow.data import Cover, covers, frames_of
from sparseflow.errors import ConfigError


def naive(frames, length, phase):
    step = max(1, length // 2)
    starts = [s for s in range(frames) if s >= int(phase * step) and (s - int(phase * step)) % step == 0]
    return [s for s in starts if s + length <= frames] or [0]


@pytest.mark.parametrize("frames", [1, 7, 8, 9, 15, 40, 41])
@pytest.mark.parametrize("phase", [0.0, 0.3, 0.99])
def test_covers_are_those_of_a_plain_loop(frames, phase):
    found = covers(frames, (1, 7, 8, 16), phase)
    for length in (1, 7, 8, 16):
        starts = [c.start for c in found if c.length == length]
        assert starts == naive(frames, length, phase)


def test_frames_are_evenly_spaced_and_the_last_one_is_repeated():
    assert frames_of(Cover(start=2, length=16), 18, 8) == (2, 4, 6, 8, 10, 12, 14, 16)
    assert frames_of(Cover(start=0, length=7), 7, 4) == (0, 1, 3, 5)
    assert frames_of(Cover(start=0, length=8), 1, 8) == (0,) * 8
    assert frames_of(Cover(start=0, length=2), 2, 4) == (0, 0, 1, 1)


@pytest.mark.parametrize("bad", [(0, [8], 0.0), (8, [], 0.0), (8, [0], 0.0), (8, [8], 1.0)])
def test_nonsense_is_refused(bad):
    with pytest.raises(ConfigError, match="expected at least one frame"):
        covers(*bad)
