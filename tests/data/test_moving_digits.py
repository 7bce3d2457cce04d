import pytest
import torch

from sparseflow.data import MovingDigits, mnist
from sparseflow.data.moving_digits import DIRECTIONS
from sparseflow.errors import ConfigError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_label_says_how_what_moves_moves():
    digits = MovingDigits(images=mnist(split="test"), still=0, clutter=0)
    clips, labels = digits.draw(64, generator())
    assert len(digits.classes) == 16
    assert labels.unique().numel() > 8
    ways = {"down": (1, 0), "up": (-1, 0), "right": (0, 1), "left": (0, -1)}
    for clip, label in zip(clips[:, :, 0], labels.tolist(), strict=True):
        name, speed = digits.classes[label].split(", ")
        step = [int(speed[0]) * sum(ways[w][axis] for w in name.split()) for axis in (0, 1)]
        # Black around it: the frame after is the frame before, moved, and nothing was cut off at an edge.
        for t in range(7):
            assert torch.equal(torch.roll(clip[t], step, (0, 1)), clip[t + 1])
        assert int((clip > 0).sum((1, 2)).min()) == int((clip > 0).sum((1, 2)).max()) > 0


def test_clutter_stands_still_and_hides_nothing_brighter():
    plain = MovingDigits(images=mnist(), movers=2)
    clips, _ = plain.draw(32, generator())
    moving = (clips != clips[:, :1]).any(1).float().mean()
    assert 0.02 < moving < 0.5
    standing = clips.float().amin(1)
    assert (standing.flatten(1).amax(1) > 100).all()


def test_the_same_seed_gives_the_same_clips_and_another_gives_others():
    digits = MovingDigits(images=mnist())
    (a, la), (b, lb), (c, _) = (digits.draw(8, generator(s)) for s in (1, 1, 2))
    assert torch.equal(a, b)
    assert torch.equal(la, lb)
    assert not torch.equal(a, c)
    moved, _ = digits.to(torch.device("cpu")).draw(8, generator(1))
    assert torch.equal(moved, a)


def test_a_path_as_long_as_the_frame_fits():
    digits = MovingDigits(images=mnist(), frames=2, side=15, digit=14, speeds=(1,), still=1, clutter=0)
    clips, _ = digits.draw(16, generator())
    assert clips.shape == (16, 2, 1, 15, 15)
    assert len(digits.classes) == len(DIRECTIONS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"movers": 0}, "movers is 0"),
        ({"still": -1}, "still is -1"),
        ({"speeds": ()}, "speeds are"),
        ({"speeds": (2, 2)}, "speeds are"),
        ({"side": 30}, "needs 35 for its way"),
    ],
)
def test_bad_settings(given, message):
    with pytest.raises(ConfigError, match=message):
        MovingDigits(images=mnist(), **given)
