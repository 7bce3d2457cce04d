import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import IFNode, LIFNode, ParametricLIFNode
from sparseflow.ops.lif import LIFParams
from sparseflow.recipes.spike_bench.gpu.dense import (
    DenseBlock,
    EagerBlock,
    PlainNeuron,
    enliven,
    neuron_params,
    plain_network,
    spikingjelly_block,
)

NODES = (
    lambda: LIFNode(step_mode="m"),
    lambda: LIFNode(tau=3.0, decay_input=False, v_reset=None, v_threshold=0.5, step_mode="m"),
    lambda: IFNode(v_reset=-0.1, step_mode="m"),
    lambda: ParametricLIFNode(init_tau=1.7, step_mode="m"),
)


@pytest.mark.parametrize("make", NODES)
def test_plain_neurons_fire_as_the_zoo_does(make):
    node = make().eval()
    x = torch.randn(5, 2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) + 0.5
    with torch.no_grad():
        torch.testing.assert_close(PlainNeuron(neuron_params(node))(x), node(x), rtol=0, atol=0)


def test_an_unknown_neuron_is_refused():
    node = nn.Module()
    node.v_threshold, node.v_reset = 1.0, 0.0
    with pytest.raises(ConfigError, match="Module"):
        neuron_params(node)


def block():
    torch.manual_seed(0)
    conv, bn = nn.Conv2d(3, 5, 3, padding=1, bias=False).eval(), nn.BatchNorm2d(5).eval()
    bn.running_mean.uniform_(-0.1, 0.1)
    bn.running_var.uniform_(0.1, 0.4)
    bn.bias.data.fill_(0.8)
    return conv, bn


def test_folded_eager_and_foreign_blocks_agree():
    conv, bn = block()
    x = (torch.rand(8, 3, 6, 6) < 0.4).float()
    folded = torch.nn.utils.fuse_conv_bn_eval(conv, bn)
    with torch.no_grad():
        eager = EagerBlock(conv, bn, LIFParams(), 4)(x)
        dense = DenseBlock(folded, LIFParams(), 4)(x)
    assert 0.0 < float(eager.mean()) < 1.0
    assert float((eager == dense).float().mean()) > 0.999
    pytest.importorskip("spikingjelly")
    with torch.no_grad():
        theirs = spikingjelly_block(conv, bn, LIFParams())(x.view(4, 2, 3, 6, 6)).flatten(0, 1)
    assert float((eager == theirs).float().mean()) > 0.999


@pytest.mark.parametrize(("name", "side"), [("sew_resnet18", 32), ("spiking_resnet50", 32), ("spiking_vgg9", 32)])
def test_the_plain_network_answers_as_the_network(name, side):
    torch.manual_seed(0)
    # In float64 no sum in another order moves a potential over the threshold, which deep networks would multiply.
    net = models.build(name, steps=2).eval().double()
    x = torch.rand(2, 3, side, side, dtype=torch.float64)
    reached = enliven(net, x)
    assert all(0.05 < rate < 0.2 for rate in reached.values())
    plain = plain_network(net)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in plain.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    with torch.no_grad():
        reset_net(net)
        want, got, again = net(x), plain(x), plain(x)
    assert torch.equal(got, again)
    torch.testing.assert_close(got, want)
