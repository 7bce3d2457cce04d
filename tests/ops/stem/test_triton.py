"""The Triton kernel of the first layer against the reference; in the interpreter where there is no GPU."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("triton", reason="needs triton")

from sparseflow.ops.lif import LIFParams
from sparseflow.ops.stem import pack_stem, reference, triton
from sparseflow.ops.stem.reference import Window
from tests.ops.lif.test_reference import NEURONS

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CASES = {
    "imagenet": ((2, 3, 15, 13), (64, 3, 7, 7), Window(stride=(2, 2), padding=(3, 3))),
    "cifar": ((1, 3, 9, 10), (40, 3, 3, 3), Window(padding=(1, 1))),
    "wide": ((1, 2, 8, 8), (100, 2, 5, 1), Window(stride=(1, 3), padding=(2, 0), dilation=(2, 1))),
    "point": ((3, 1, 1, 1), (1, 1, 1, 1), Window()),
    "deep": ((1, 11, 6, 5), (33, 11, 3, 3), Window(padding=(2, 2))),
}


def made(shape, kernel, grid, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g) * 2
    weight = torch.randn(kernel, generator=g) / (kernel[1] * kernel[2] * kernel[3]) ** 0.5 * 3
    bias = torch.randn(kernel[0], generator=g) * 0.3
    if grid:
        # On a grid, where every sum is exact: the spikes must then be the reference's.
        x, weight, bias = (x * 64).round() / 64, (weight * 32).round() / 32, (bias * 64).round() / 64
    return x, weight, bias


def spikes(x, weight, bias, params, window, steps, **how):
    packed = pack_stem(weight.to(DEVICE), None if bias is None else bias.to(DEVICE))
    size = window.output(tuple(x.shape[2:]), tuple(weight.shape[2:]))
    words = torch.full((steps * len(x), *size, -(-len(weight) // 32)), 0x5A5A5A5A, dtype=torch.int32, device=DEVICE)
    parts = (packed.high, packed.low, packed.scale, packed.padded_bias)
    triton.stem(x.to(DEVICE), parts, tuple(weight.shape[2:]), params, steps, window, words, **how)
    return words.cpu()


@pytest.mark.parametrize("case", CASES)
def test_spikes_equal_the_reference_where_sums_are_exact(case):
    shape, kernel, window = CASES[case]
    x, weight, bias = made(shape, kernel, grid=True)
    params = LIFParams()
    want = reference.stem(x, weight, bias, params, steps=4, window=window)
    assert torch.equal(spikes(x, weight, bias, params, window, 4, pixels=32), want)
    want = reference.stem(x, weight, None, params, steps=1, window=window)
    assert torch.equal(spikes(x, weight, None, params, window, 1, pixels=16, terms=16), want)


@pytest.mark.parametrize("params", NEURONS, ids=str)
def test_every_neuron(params):
    shape, kernel, window = CASES["cifar"]
    x, weight, bias = made(shape, kernel, grid=True, seed=1)
    want = reference.stem(x, weight, bias, params, steps=3, window=window)
    assert torch.equal(spikes(x, weight, bias, params, window, 3), want)


@pytest.mark.parametrize("case", CASES)
def test_only_potentials_at_the_threshold_may_tip(case):
    shape, kernel, window = CASES[case]
    x, weight, bias = made(shape, kernel, grid=False, seed=2)
    params = LIFParams(kind="if")
    got = spikes(x, weight, bias, params, window, 1, pixels=32)
    y = F.conv2d(x.double(), weight.double(), bias.double(), window.stride, window.padding, window.dilation)
    near = (y - 1).abs() < 1e-5
    bits = (got.unsqueeze(-1) >> torch.arange(32)) & 1
    found = bits.flatten(3)[..., : kernel[0]].permute(0, 3, 1, 2).bool()
    assert torch.equal(found | near, (y >= 1) | near)
    assert not bits.flatten(3)[..., kernel[0] :].any()
