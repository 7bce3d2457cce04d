import math

import pytest
import torch
from torch.nn import functional as F

from sparseflow.data import erase, rotate
from sparseflow.errors import ConfigError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def disc(n=1, channels=2, side=33):
    """A centred disc, which every rotation leaves where it is."""
    at = torch.arange(side) - (side - 1) / 2
    inside = (at[:, None] ** 2 + at[None] ** 2 < (side / 4) ** 2).float()
    return inside.expand(n, channels, side, side).contiguous()


def slow_rotate(x, angle):
    """Turn one image by the definition, pixel by pixel, bilinearly."""
    _, height, width = x.shape
    out = torch.zeros_like(x)
    cy, cx = (height - 1) / 2, (width - 1) / 2
    for i in range(height):
        for j in range(width):
            u = math.cos(angle) * (j - cx) - math.sin(angle) * (i - cy) + cx
            v = math.sin(angle) * (j - cx) + math.cos(angle) * (i - cy) + cy
            for di in (0, 1):
                for dj in (0, 1):
                    r, c = math.floor(v) + di, math.floor(u) + dj
                    weight = (1 - abs(v - r)) * (1 - abs(u - c))
                    if 0 <= r < height and 0 <= c < width:
                        out[:, i, j] += weight * x[:, r, c]
    return out


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 7), (6, 10), (1, 1)])
def test_rotation_is_the_one_of_the_definition(height, width):
    x = torch.randn(3, 2, height, width, generator=generator(1))
    got = rotate(x, 40.0, generator())
    angles = (2 * torch.rand(3, generator=generator()) - 1) * math.radians(40)
    for image, turned, angle in zip(x, got, angles, strict=True):
        torch.testing.assert_close(turned, slow_rotate(image, float(angle)), rtol=1e-4, atol=1e-4)


def test_a_disc_stays_and_the_corners_are_filled_with_zero():
    x = disc(8)
    turned = rotate(x, 180.0, generator())
    assert (turned - x).abs().mean() < 0.02
    ones = rotate(torch.ones(64, 1, 32, 32), 15.0, generator())
    assert ones[:, :, 16, 16].min() > 0.99
    assert (ones[:, :, 0, 0] == 0).any()


def test_each_image_has_an_angle_of_its_own_within_the_bound():
    x = torch.zeros(64, 1, 65, 65)
    x[:, :, 32, 60] = 1.0
    turned = F.avg_pool2d(rotate(x, 15.0, generator()), 3, 1, 1)
    at = turned.flatten(1).argmax(1)
    angles = torch.atan2((at // 65 - 32).float(), (at % 65 - 32).float()).rad2deg()
    assert angles.abs().max() < 17
    assert angles.unique().numel() > 8
    assert angles.min() < -5 < 5 < angles.max()


def test_no_rotation_and_no_image():
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(rotate(x, 0.0, generator()), x)
    assert rotate(x[:0], 15.0, generator()).shape == (0, 3, 4, 4)
    assert erase(x[:0], 0.5, generator()).shape == (0, 3, 4, 4)


def holes(x):
    return (x == 0).all(1)


def test_half_of_the_images_lose_one_rectangle():
    x = erase(torch.ones(400, 3, 32, 32), 0.5, generator())
    assert set(x.unique().tolist()) == {0.0, 1.0}
    found = holes(x)
    area = found.sum((1, 2))
    assert 150 < int((area > 0).sum()) < 250
    for hole in found[area > 0]:
        rows, columns = hole.any(1).nonzero().flatten(), hole.any(0).nonzero().flatten()
        tall, wide = int(rows[-1] - rows[0] + 1), int(columns[-1] - columns[0] + 1)
        assert int(hole.sum()) == tall * wide
        assert 0.015 < tall * wide / 1024 < 0.35
        assert 0.25 < tall / wide < 4


def test_erasing_reaches_every_border():
    found = holes(erase(torch.ones(2000, 1, 16, 16), 1.0, generator()))
    for border in (found[:, 0], found[:, -1], found[:, :, 0], found[:, :, -1]):
        assert border.any()


@pytest.mark.parametrize("side", [1, 2, 3])
def test_tiny_images(side):
    x = torch.ones(50, 1, side, side)
    y = erase(x, 1.0, generator())
    assert y.shape == x.shape
    assert (y.flatten(1).sum(1) > 0).all()


def test_probabilities_of_none_and_all():
    x = torch.ones(20, 1, 32, 32)
    assert torch.equal(erase(x, 0.0, generator()), x)
    assert (holes(erase(x, 1.0, generator())).sum((1, 2)) > 0).all()
    assert torch.equal(x, torch.ones_like(x))


def test_the_generator_is_all_that_counts():
    x = torch.randn(8, 3, 16, 16)
    for transform, amount in ((rotate, 15.0), (erase, 0.5)):
        assert torch.equal(transform(x, amount, generator(3)), transform(x, amount, generator(3)))
        assert not torch.equal(transform(x, amount, generator(3)), transform(x, amount, generator(4)))


@pytest.mark.parametrize(("transform", "amount"), [(rotate, -1.0), (erase, -0.1), (erase, 1.5), (erase, float("nan"))])
def test_bad_amounts(transform, amount):
    with pytest.raises(ConfigError, match="expected 0"):
        transform(torch.ones(1, 1, 4, 4), amount, generator())
