"""The two-stage Triton convolution against the dense truth; in the interpreter where there is no GPU."""

import pytest
import torch

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.conv2d_block import reference, triton
from sparseflow.ops.conv2d_spike.reference import Geometry
from tests.tolerances import assert_near

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def convolve(x, weight, bias, geometry, block):
    size = geometry.output(x.shape[2:], weight.shape[2:])
    y = torch.empty((x.shape[0], weight.shape[0], *size), dtype=x.dtype, device=x.device).fill_(torch.nan)
    y = y.contiguous(memory_format=torch.channels_last)
    triton.conv2d_block(x, weight, bias, geometry, block, y)
    return y


def maps(shape, seed=0, density=0.02):
    g = torch.Generator().manual_seed(seed)
    return (torch.randn(shape, generator=g) * (torch.rand(shape, generator=g) < density)).to(DEVICE)


@pytest.mark.parametrize("block", [4, 8, 16])
def test_flags(block):
    for seed, layout in enumerate(LAYOUTS):
        x = maps((2, 35, 9, 13), seed).contiguous(memory_format=layout)
        x[0, 0, 0, 0] = torch.nan
        assert torch.equal(triton.active_blocks(x, block).bool(), reference.active_blocks(x, block))


@pytest.mark.parametrize("block", [4, 8])
@pytest.mark.parametrize(
    ("k", "stride", "padding", "dilation"),
    [(1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (3, 1, 3, 3), (5, 1, 0, 1), (7, 2, 3, 1), (3, 3, 0, 1)],
)
def test_equals_dense(k, stride, padding, dilation, block):
    geometry = Geometry((stride, stride), (padding, padding), (dilation, dilation))
    x = maps((1, 35, 11, 9)).contiguous(memory_format=LAYOUTS[k // 2 % 2])
    weight, bias = torch.randn(9, 35, k, k).to(DEVICE), torch.randn(9).to(DEVICE)
    assert_near(
        convolve(x, weight, bias, geometry, block), reference.conv2d_block(x, weight, bias, geometry), "conv2d_block"
    )


def test_large_blocks():
    x, weight = maps((1, 3, 33, 17)), torch.randn(5, 3, 3, 3).to(DEVICE)
    geometry = Geometry(padding=(1, 1))
    assert_near(
        convolve(x, weight, None, geometry, 16), reference.conv2d_block(x, weight, None, geometry), "conv2d_block"
    )


@pytest.mark.parametrize("place", [(0, 0), (3, 3), (4, 4), (7, 3), (11, 10)])
def test_one_spike_reaches_its_neighbours(place):
    """The case that the first design got wrong: active blocks beside inactive ones."""
    x = torch.zeros(1, 1, 12, 11, device=DEVICE)
    x[0, 0, place[0], place[1]] = 1
    weight = torch.randn(2, 1, 3, 3).to(DEVICE)
    geometry = Geometry(padding=(1, 1))
    want = reference.conv2d_block(x, weight, None, geometry)
    assert_near(convolve(x, weight, None, geometry, 4), want, "conv2d_block")


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_all_and_nothing(density):
    x, weight, bias = (
        maps((1, 40, 8, 8), density=density),
        torch.randn(70, 40, 3, 3).to(DEVICE),
        torch.ones(70).to(DEVICE),
    )
    geometry = Geometry(padding=(1, 1))
    y = convolve(x, weight, bias, geometry, 8)
    assert_near(y, reference.conv2d_block(x, weight, bias, geometry), "conv2d_block")
    assert density or bool((y == 1).all())


def test_half_precision_and_repeatability():
    x, weight = maps((1, 33, 5, 5), density=0.2).half(), (torch.randn(8, 33, 3, 3) / 16).half().to(DEVICE)
    geometry = Geometry(padding=(1, 1))
    y = convolve(x, weight, None, geometry, 4)
    want = reference.conv2d_block(x.float(), weight.float(), None, geometry)
    assert_near(y, want.half(), "conv2d_block")
    assert torch.equal(y, convolve(x, weight, None, geometry, 4))


def test_nothing_in_nothing_out():
    empty = torch.empty(0, 3, 8, 8, device=DEVICE)
    assert convolve(empty, torch.ones(2, 3, 1, 1, device=DEVICE), None, Geometry(), 4).shape == (0, 2, 8, 8)
    assert triton.active_blocks(empty, 4).shape == (0, 2, 2, 3)
