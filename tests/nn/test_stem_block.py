"""The image's layer packs what the modules behind it make, and packs again when they change."""

import pytest
import torch
from torch import nn

from sparseflow.compress import fold_bn
from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.nn.layers import BatchNorm2d, Conv2d
from sparseflow.nn.neurons import LIFNode, ParametricLIFNode
from sparseflow.nn.spike_layer_block import Part
from sparseflow.nn.spikes import unpack
from sparseflow.nn.stem_block import StemBlock


def made(neuron=LIFNode):
    torch.manual_seed(0)
    conv, bn, sn = Conv2d(3, 40, 5, 2, 2, bias=False), BatchNorm2d(40), neuron(step_mode="m")
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.2, 0.5)
    bn.bias.data.fill_(1.0)
    return nn.Sequential(conv, bn, sn).eval()


def block_of(model, repeat=3):
    part = Part(model[0], model[1], fold=fold_bn, padding=(2, 2))
    return StemBlock(part, model[2], neuron_constants, repeat=repeat)


def want(model, x, repeat=3):
    current = model[1](model[0](x))
    model[2].reset()
    return model[2](current.expand(repeat, *current.shape))


@pytest.mark.parametrize("neuron", [LIFNode, ParametricLIFNode])
@torch.no_grad()
def test_it_is_the_three_modules(neuron):
    model, x = made(neuron), torch.randn(2, 3, 11, 12)
    block = block_of(model)
    spikes = block(x)
    assert spikes.lead == (3, 2)
    expected = want(model, x)
    assert torch.equal(unpack(spikes), expected)
    assert 0 < expected.mean() < 1
    assert not list(block.parameters())


@torch.no_grad()
def test_changed_weights_are_noticed():
    model, x = made(), torch.randn(1, 3, 9, 9)
    block = block_of(model)
    before = block(x)
    model[0].weight.mul_(2)
    assert not torch.equal(block(x).words, before.words)
    assert torch.equal(unpack(block(x)), want(model, x))


@pytest.mark.parametrize(
    ("layer", "taken"),
    [
        (nn.Conv2d(3, 64, 7), True),
        (nn.Conv2d(3, 6, 3, groups=3), False),
        (nn.Conv2d(64, 8, 3), False),
        (nn.Linear(3, 4), False),
    ],
)
def test_what_it_takes(layer, taken):
    assert StemBlock.takes(layer) is taken
