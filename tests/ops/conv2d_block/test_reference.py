"""The blocks' truth: flags by hand, and blocks scattered one by one give the dense convolution."""

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.conv2d_block import conv2d_block, reference
from sparseflow.ops.conv2d_spike.reference import Geometry


def maps(shape, seed=0, density=0.05):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g) * (torch.rand(shape, generator=g) < density)


def test_flags():
    x = torch.zeros(1, 2, 5, 9)
    x[0, 0, 4, 8] = -0.5
    x[0, 1, 3, 3] = torch.nan
    flags = reference.active_blocks(x, 4)
    assert flags.shape == (1, 2, 3, 2)
    assert flags.nonzero().tolist() == [[0, 0, 0, 1], [0, 1, 2, 0]]
    assert not reference.active_blocks(torch.zeros(1, 1, 4, 4), 4).any()


@pytest.mark.parametrize(
    "geometry", [Geometry(padding=(1, 1)), Geometry((2, 2), (1, 1)), Geometry((1, 1), (2, 2), (2, 2))]
)
def test_blocks_scatter_into_their_neighbours(geometry):
    x, weight, bias = maps((2, 3, 9, 7)).double(), torch.randn(4, 3, 3, 3).double(), torch.randn(4).double()
    want = reference.conv2d_block(x, weight, bias, geometry)
    torch.testing.assert_close(reference.scatter_blocks(x, weight, bias, geometry, 4), want)


def test_a_drop_in_with_gradients():
    x, weight, bias = maps((2, 3, 9, 7)).requires_grad_(), torch.randn(4, 3, 3, 3, requires_grad=True), torch.randn(4)
    got = conv2d_block(x, weight, bias, block=4, padding=1)
    want = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    assert torch.equal(got, want)
    for a, b in zip(
        torch.autograd.grad(got.square().sum(), (x, weight)), torch.autograd.grad(want.square().sum(), (x, weight)),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b)
    last = x.detach().contiguous(memory_format=torch.channels_last)
    y = conv2d_block(last, weight.detach(), block=4)
    assert y.is_contiguous(memory_format=torch.channels_last)
    grouped = conv2d_block(x[:, :2], weight[:, :1], groups=2, block=8)
    torch.testing.assert_close(grouped, torch.nn.functional.conv2d(x[:, :2], weight[:, :1], groups=2))


def test_opcheck():
    x, weight, bias = maps((2, 3, 6, 5)).requires_grad_(), torch.randn(4, 3, 3, 3, requires_grad=True), torch.randn(4)
    arguments = (x, weight, bias, Geometry(padding=(1, 1)).flat(), 4, False)
    torch.library.opcheck(torch.ops.sparseflow.conv2d_block.default, arguments)


def test_bad_operands_are_named():
    x, weight = torch.ones(1, 2, 4, 4), torch.ones(1, 2, 3, 3)
    with pytest.raises(ConfigError, match="block is 5"):
        conv2d_block(x, weight, block=5)
    with pytest.raises(ConfigError, match="do not fit"):
        conv2d_block(x[:, :1], weight, block=4)
    with pytest.raises(ConfigError, match="does not fit a map"):
        conv2d_block(x[:, :, :2], weight, block=4)
    with pytest.raises(UnsupportedError, match="no kernel 'scatter'"):
        conv2d_block(x, weight, block=4, kernel="scatter")
    with pytest.raises(UnsupportedError, match="takes CUDA tensors"):
        conv2d_block(x, weight, block=4, kernel="triton")
    with pytest.raises(UnsupportedError, match="one group, not 2"):
        conv2d_block(x, weight[:, :1].repeat(2, 1, 1, 1), block=4, groups=2, kernel="triton")
