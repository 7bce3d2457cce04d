"""Linear layers on spikes against torch."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops import linear_spike as ops
from sparseflow.ops.lif import LIFParams, pack_spikes
from sparseflow.ops.linear_spike import reference
from sparseflow.ops.linear_spike.cpp import as_conv
from tests.ops.conv2d_spike.test_torch import KERNELS
from tests.tolerances import assert_near


def operands(shape, out, density=0.2, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = (torch.rand(shape, generator=g) < density).float()
    return x, torch.randn(out, shape[-1], generator=g) / 4, torch.randn(out, generator=g)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("shape", [(1, 1), (5, 33), (4, 2, 100), (512,), (2, 0, 7), (0, 64)], ids=str)
@pytest.mark.parametrize("density", [0.0, 0.2, 1.0])
def test_drop_in(shape, density, kernel):
    x, weight, bias = operands(shape, 10, density)
    for b in (bias, None):
        assert_near(ops.spike_linear(x, weight, b, kernel=kernel), F.linear(x, weight, b), "linear_spike")
        assert_near(ops.spike_linear(x * 0.7, weight, b, kernel=kernel), F.linear(x * 0.7, weight, b), "linear_spike")


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_the_dense_ones(kernel):
    leaves = [x.requires_grad_() for x in operands((3, 4, 50), 10)]
    want = torch.autograd.grad(F.linear(*leaves).square().sum(), leaves)
    got = torch.autograd.grad(ops.spike_linear(*leaves, kernel=kernel).square().sum(), leaves)
    for a, b in zip(got, want, strict=True):
        assert_near(a, b, "conv2d_spike_gradient")


@pytest.mark.parametrize("kernel", KERNELS)
def test_packed(kernel):
    x, weight, bias = operands((6, 70), 40)
    rows, words, sizes = ops.pack_weight(weight, kernel=kernel), pack_spikes(x), {"channels": 70, "out_channels": 40}
    want = reference.linear_words(words, weight.double(), bias.double())
    assert_near(ops.linear_words(words, rows, bias, **sizes), want.float(), "linear_spike")
    for v0 in (None, torch.randn(2, 40)):
        out, v = ops.linear_lif(words, rows, bias, LIFParams(), steps=3, v0=v0, **sizes)
        double = None if v0 is None else v0.double()
        want = reference.linear_lif(words, weight.double(), bias.double(), LIFParams(), steps=3, v0=double)
        assert torch.equal(out, want[0])
        assert_near(v, want[1].float(), "linear_spike")


def test_bad_operands_are_named():
    with pytest.raises(ConfigError, match="do not fit"):
        ops.spike_linear(torch.ones(2, 3), torch.ones(4, 5))
    with pytest.raises(ConfigError, match="pack_weight"):
        ops.pack_weight(torch.ones(3))
    with pytest.raises(UnsupportedError, match="no kernel"):
        ops.spike_linear(torch.ones(2, 3), torch.ones(4, 3), kernel="magic")


def test_as_conv_is_a_view():
    weight = torch.ones(2, 3)
    assert as_conv(weight).data_ptr() == weight.data_ptr()
