"""Packed spikes have the shape, the values and the views of the floats that they stand for."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.spikes import add, average, flatten, pack, pool, reshape, shape, unpack


def _bits(*sizes: int) -> torch.Tensor:
    return (torch.rand(*sizes) < 0.3).float()


@pytest.mark.parametrize("lead", [(3,), (4, 2)])
def test_there_and_back(lead: tuple[int, ...]) -> None:
    x = _bits(*lead, 35, 5, 6)
    spikes = pack(x)
    assert shape(spikes) == x.shape
    assert torch.equal(unpack(spikes), x)


def test_views() -> None:
    x = _bits(4, 2, 3, 5, 6)
    spikes = pack(x)
    assert torch.equal(unpack(flatten(spikes, 2)), x.flatten(2))
    assert torch.equal(unpack(flatten(spikes, 0, 1)), x.flatten(0, 1))
    assert torch.equal(unpack(reshape(spikes, 8, -1)), x.view(8, -1))
    back = reshape(reshape(spikes, -1, 90), 4, 2, 3, 5, 6)
    assert torch.equal(unpack(back), x)


def test_pool() -> None:
    x = _bits(4, 2, 3, 6, 6)
    want = F.max_pool2d(x.flatten(0, 1), 3, 2, 1).unflatten(0, (4, 2))
    assert torch.equal(unpack(pool(pack(x), 3, 2, 1)), want)


def test_refuses_to_tear_pixels_or_pack_values() -> None:
    with pytest.raises(ConfigError, match="cannot be viewed"):
        reshape(pack(_bits(2, 3, 4, 4)), 2, 4, 3, 4)
    with pytest.raises(DataError):
        pack(torch.full((1, 1, 2, 2), 0.5))


def test_counts() -> None:
    x, y, z = (_bits(4, 2, 35, 6, 6) for _ in range(3))
    two = add(pack(x), pack(y), 2)
    three = add(two, pack(z), 2)
    assert torch.equal(unpack(three), x + y + z)
    assert torch.equal(unpack(three, torch.float16), (x + y + z).half())
    assert torch.equal(unpack(add(three, two, 3)), x + y + z + x + y)
    assert torch.equal(unpack(add(three, two, 4)), x + y + z + x + y)
    want = F.max_pool2d((x + y + z).flatten(0, 1), 2).unflatten(0, (4, 2))
    assert torch.equal(unpack(pool(three, 2, None, 0)), want)
    torch.testing.assert_close(average(three), (x + y + z).mean((-2, -1), keepdim=True))
    assert torch.equal(unpack(flatten(three, 2)), (x + y + z).flatten(2))
    with pytest.raises(ConfigError, match="cannot be added"):
        add(pack(x), pack(x[:, :1]), 2)
