"""Blocks do the work of the modules that they stand for, and keep their state there."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.nn.layers import BatchNorm2d, Conv2d
from sparseflow.nn.neurons import IFNode, LIFNode, ParametricLIFNode
from sparseflow.nn.spike_block import ConvBlock, ConvNeuronBlock, DenseBlock, NeuronBlock
from sparseflow.nn.spikes import Spikes, flatten, pack, shape, unpack

KERNELS = ["dense", "event"]


def _bits(*sizes: int) -> Tensor:
    return (torch.rand(*sizes) < 0.3).float()


def _bn(channels: int) -> BatchNorm2d:
    bn = BatchNorm2d(channels).eval()
    with torch.no_grad():
        bn.weight.uniform_(0.5, 2.0)
        assert bn.running_mean is not None
        bn.running_mean.normal_(std=0.1)
    return bn


@pytest.mark.parametrize("kernel", KERNELS)
@torch.no_grad()
def test_conv_block(kernel: str) -> None:
    conv, bn, x = Conv2d(6, 10, 3, stride=2, padding=1), _bn(10), _bits(4, 2, 6, 9, 7)
    block = ConvBlock(conv, bn, fold=fold_bn, padding=(1, 1), kernel=kernel)
    torch.testing.assert_close(block(pack(x)), bn(conv(x)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@torch.no_grad()
def test_linear_block_reads_maps_as_features(kernel: str) -> None:
    linear, x = nn.Linear(6 * 5 * 3, 7), _bits(4, 2, 6, 5, 3)
    block = ConvBlock(linear, size=(5, 3), kernel=kernel)
    got = block(flatten(pack(x), 2))
    torch.testing.assert_close(got, linear(x.flatten(2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@torch.no_grad()
def test_dense_block_takes_any_values(kernel: str) -> None:
    conv, bn, linear = Conv2d(6, 10, 3), _bn(10), nn.Linear(6, 4)
    block = DenseBlock(conv, bn, fold=fold_bn, kernel=kernel)
    for x in (torch.randn(2, 6, 8, 8), _bits(3, 2, 6, 8, 8) * 3):
        torch.testing.assert_close(block(x), bn(conv(x)), rtol=1e-5, atol=1e-5)
    y = torch.randn(3, 2, 6)
    torch.testing.assert_close(DenseBlock(linear, kernel=kernel)(y), linear(y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("residual", ["none", "floats", "bits"])
@torch.no_grad()
def test_conv_neuron_block(kernel: str, residual: str) -> None:
    conv, bn, neuron, x = Conv2d(6, 40, 3, padding=1), _bn(40), LIFNode(step_mode="m"), _bits(4, 2, 6, 5, 5)
    own = copy.deepcopy(neuron)
    block = ConvNeuronBlock(conv, neuron, neuron_constants, bn, fold=fold_bn, padding=(1, 1), kernel=kernel)
    side = {"none": None, "floats": torch.randn(4, 2, 40, 5, 5), "bits": _bits(4, 2, 40, 5, 5)}[residual]
    given = pack(side) if side is not None and residual == "bits" else side
    for _ in range(2):
        current = bn(conv(x))
        want = own(current if side is None else current + side)
        got = block(pack(x), given)
        assert shape(got) == want.shape
        assert torch.equal(unpack(got), want)
        torch.testing.assert_close(neuron.v, own.v, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_linear_neuron_block_keeps_the_state_flat() -> None:
    linear, neuron, x = nn.Linear(6 * 4, 9), IFNode(v_reset=None, step_mode="m"), _bits(4, 2, 6, 2, 2)
    own = copy.deepcopy(neuron)
    block = ConvNeuronBlock(linear, neuron, neuron_constants, size=(2, 2), kernel="event")
    got = block(flatten(pack(x), 2))
    assert torch.equal(unpack(got), own(linear(x.flatten(2))))
    assert isinstance(neuron.v, Tensor)
    assert neuron.v.shape == (2, 9)
    neuron.reset()
    assert torch.equal(unpack(block(flatten(pack(x), 2))), unpack(got))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("sizes", [(4, 2, 33, 5, 5), (4, 2, 33, 7), (4, 2, 33)], ids=str)
@torch.no_grad()
def test_neuron_block(sizes: tuple[int, ...], packed: bool) -> None:
    neuron, x = LIFNode(v_reset=-0.3, step_mode="m"), 2 * torch.randn(sizes)
    own = copy.deepcopy(neuron)
    block = NeuronBlock(neuron, neuron_constants, packed=packed)
    for _ in range(2):
        got = block(x)
        made = unpack(got).reshape(sizes) if isinstance(got, Spikes) else got
        assert torch.equal(made, own(x))
        torch.testing.assert_close(neuron.v, own.v)


@pytest.mark.parametrize("packed", [True, False])
@torch.no_grad()
def test_repeats_a_static_input(packed: bool) -> None:
    neuron, x = LIFNode(step_mode="m"), 2 * torch.randn(2, 33, 5, 5)
    own = copy.deepcopy(neuron)
    got = NeuronBlock(neuron, neuron_constants, packed=packed, repeat=4)(x)
    assert torch.equal(unpack(got) if isinstance(got, Spikes) else got, own(x.expand(4, *x.shape)))


@pytest.mark.parametrize("packed", [True, False])
@torch.no_grad()
def test_a_sequence_in_place_of_a_static_input_keeps_its_steps(packed: bool) -> None:
    neuron, x = LIFNode(step_mode="m"), 2 * torch.randn(6, 2, 33, 5, 5)
    own = copy.deepcopy(neuron)
    got = NeuronBlock(neuron, neuron_constants, packed=packed, repeat=4)(x)
    assert torch.equal(unpack(got) if isinstance(got, Spikes) else got, own(x))


@pytest.mark.parametrize("kernel", KERNELS)
@torch.no_grad()
def test_linear_blocks_take_an_empty_batch(kernel: str) -> None:
    linear = nn.Linear(6 * 4, 7)
    assert ConvBlock(linear, size=(2, 2), kernel=kernel)(flatten(pack(_bits(4, 0, 6, 2, 2)), 2)).shape == (4, 0, 7)
    assert DenseBlock(linear, kernel=kernel)(torch.zeros(4, 0, 24)).shape == (4, 0, 7)


@torch.no_grad()
def test_single_steps_and_a_state_given_as_a_number() -> None:
    conv, neuron, x = Conv2d(6, 8, 3), LIFNode(), _bits(2, 6, 5, 5)
    neuron.v = 0.4
    own = copy.deepcopy(neuron)
    block = ConvNeuronBlock(conv, neuron, neuron_constants, kernel="event")
    for _ in range(3):
        assert torch.equal(unpack(block(pack(x))), own(conv(x)))


@torch.no_grad()
def test_learnt_constants_are_read_again() -> None:
    neuron, x = ParametricLIFNode(step_mode="m"), 2 * torch.randn(4, 2, 3, 5, 5)
    block = NeuronBlock(neuron, neuron_constants)
    block(x)
    neuron.w.fill_(3.0)
    neuron.reset()
    own = copy.deepcopy(neuron)
    assert torch.equal(unpack(block(x)), own(x))


def test_a_block_owns_no_parameter() -> None:
    block = ConvNeuronBlock(Conv2d(2, 2, 1), LIFNode(), neuron_constants)
    assert not block.state_dict()
    assert not list(block.parameters())
    assert "kernel='event'" in repr(block)
