"""Defects of the earlier SparseFlow's kernels, one test each."""

import pytest
import torch
import torch.nn.functional as F

from sparseflow.ops import conv2d_spike as ops
from sparseflow.ops._library import native
from sparseflow.ops.conv2d_spike import amx
from sparseflow.ops.lif import LIFParams, pack_spikes, unpack_spikes
from sparseflow.ops.lif import reference as neuron
from tests.tolerances import assert_near

KERNELS = ["auto", "dense"] + ([] if native is None else ["event"]) + ([] if amx.machine_refusal() else ["amx"])


@pytest.fixture
def layer():
    g = torch.Generator().manual_seed(0)
    return torch.randn(8, 16, 3, 3, generator=g), torch.randn(8, generator=g)


def scatter_into_own_block(x, weight, block):
    """What the earlier kernel computed: an active block adds only to the outputs inside it."""
    y = torch.zeros(x.shape[0], weight.shape[0], *x.shape[2:])
    for i in range(0, x.shape[2], block):
        for j in range(0, x.shape[3], block):
            inside = torch.zeros_like(x)
            inside[..., i : i + block, j : j + block] = x[..., i : i + block, j : j + block]
            whole = F.conv2d(inside, weight, padding=1)
            y[..., i : i + block, j : j + block] += whole[..., i : i + block, j : j + block]
    return y


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("where", [(3, 3), (4, 4), (3, 4), (0, 3), (4, 0)])
def test_an_active_block_reaches_into_its_silent_neighbours(layer, kernel, where):
    weight, _ = layer
    x = torch.zeros(1, 16, 8, 8)
    x[0, ::3, where[0], where[1]] = 1
    want = F.conv2d(x, weight, padding=1)
    assert not torch.allclose(scatter_into_own_block(x, weight, 4), want)
    assert_near(ops.spike_conv2d(x, weight, padding=1, kernel=kernel), want, "conv2d_spike")


@pytest.mark.parametrize("kernel", KERNELS[1:])
@pytest.mark.parametrize("decay_input", [True, False])
def test_fused_neurons_read_decay_input(layer, kernel, decay_input):
    weight, bias = layer
    x = (torch.rand(8, 16, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.2).float()
    params = LIFParams(tau=3.0, decay_input=decay_input)
    rows = ops.pack_weight(weight, kernel=kernel)
    how = {"channels": 16, "out_channels": 8, "kernel_size": 3, "padding": 1}
    words, _ = ops.conv_lif(pack_spikes(x), rows, bias, params, steps=4, **how)
    y = F.conv2d(x, weight, bias, padding=1)
    want, _ = neuron.lif(y, params, steps=4)
    other, _ = neuron.lif(y, LIFParams(tau=3.0, decay_input=not decay_input), steps=4)
    assert not torch.equal(want, other)
    assert torch.equal(unpack_spikes(words, 8), want)


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_silent_layer_is_its_bias_now_and_live_later(layer, kernel):
    weight, bias = layer
    x = torch.zeros(2, 16, 5, 5)
    quiet = ops.spike_conv2d(x, weight, bias, kernel=kernel)
    assert torch.equal(quiet, bias[:, None, None].expand(2, 8, 3, 3))
    x[1] = 1
    assert_near(ops.spike_conv2d(x, weight, bias, kernel=kernel), F.conv2d(x, weight, bias), "conv2d_spike")


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [1, 4, 6])
def test_small_maps_and_every_output_channel_are_computed(layer, kernel, size):
    weight, bias = layer
    x = (torch.rand(3, 16, size, size, generator=torch.Generator().manual_seed(2)) < 0.5).float()
    got = ops.spike_conv2d(x, weight, bias, padding=1, kernel=kernel)
    assert_near(got, F.conv2d(x, weight, bias, padding=1), "conv2d_spike")


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k != "amx"])
def test_sums_of_spikes_are_not_taken_for_spikes(layer, kernel):
    weight, bias = layer
    g = torch.Generator().manual_seed(3)
    x = sum((torch.rand(2, 16, 6, 6, generator=g) < 0.2).float() for _ in range(3))
    assert x.max() > 1
    got = ops.spike_conv2d(x, weight, bias, padding=1, kernel=kernel)
    assert_near(got, F.conv2d(x, weight, bias, padding=1), "conv2d_spike")


def test_packing_is_inside_the_operator(layer):
    """The float operator takes plain floats, so that no timing of it can leave the scan of the input out."""
    schema = str(torch.ops.sparseflow.spike_conv2d.default._schema)
    assert schema.startswith("sparseflow::spike_conv2d(Tensor x, Tensor weight, Tensor? bias, Tensor? rows,")
