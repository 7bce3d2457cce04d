"""A stream's sum and its spikes are those of the sum and of the neuron alone."""

import copy

import pytest
import torch

from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.nn.neurons import IFNode, LIFNode, ParametricLIFNode
from sparseflow.nn.spikes import unpack
from sparseflow.nn.stream_block import StreamBlock


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(4, 2, 33, 5, 3), (3, 2, 40, 7), (1, 1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("neuron", [IFNode(v_reset=None, step_mode="m"), LIFNode(tau=1.5, step_mode="m")], ids=repr)
def test_sum_and_spikes(sizes: tuple[int, ...], neuron: LIFNode) -> None:
    x, y = torch.randn(sizes), torch.randn(sizes)
    own, block = copy.deepcopy(neuron), StreamBlock(neuron, neuron_constants)
    for last in (False, True):
        if last and len(sizes) == 5:
            x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(sizes)
        spikes, total = block(x, y)
        assert torch.equal(total, x + y)
        assert torch.equal(unpack(spikes).reshape(sizes), own(x + y))
        assert neuron.v == own.v_reset or neuron.v == 0.0
        own.reset()


@torch.no_grad()
def test_types_that_differ_are_added_in_float32() -> None:
    x, y = torch.randn(2, 1, 3, 2, 2).half(), torch.randn(2, 1, 3, 2, 2)
    assert torch.equal(StreamBlock(LIFNode(step_mode="m"), neuron_constants)(x, y)[1], x + y)
    assert StreamBlock(LIFNode(step_mode="m"), neuron_constants)(x, x)[1].dtype == torch.float16


@torch.no_grad()
def test_learnt_constants_are_read_again() -> None:
    neuron = ParametricLIFNode(step_mode="m")
    block, x = StreamBlock(neuron, neuron_constants), torch.rand(4, 2, 8, 3, 3)
    before = unpack(block(x, x)[0])
    neuron.w.fill_(-3.0)
    after = unpack(block(x, x)[0])
    assert not torch.equal(before, after)
    assert torch.equal(after, neuron(x + x))


@torch.no_grad()
@pytest.mark.parametrize("swap", [False, True])
def test_one_operand_in_channels_last_is_enough(swap: bool) -> None:
    x, y = torch.randn(2, 2, 5, 3, 3), torch.randn(2, 2, 5, 3, 3)
    y = y.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(y.shape)
    spikes, total = StreamBlock(LIFNode(step_mode="m"), neuron_constants)(*((y, x) if swap else (x, y)))
    assert torch.equal(total, x + y)
    assert total.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(unpack(spikes), LIFNode(step_mode="m")(x + y))
