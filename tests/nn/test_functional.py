import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn.functional import reset_net, set_step_mode
from sparseflow.nn.neurons import IFNode


def test_reset_net_resets_every_neuron_at_any_depth():
    net = nn.Sequential(IFNode(), nn.Sequential(IFNode()))
    net(torch.full((2,), 0.3))
    reset_net(net)
    assert net[0].v == 0.0
    assert net[1][0].v == 0.0


def test_set_step_mode():
    net = nn.Sequential(IFNode(), nn.ReLU())
    set_step_mode(net, "m")
    assert net[0].step_mode == "m"
    assert not hasattr(net[1], "step_mode")
    with pytest.raises(ConfigError, match="'s' or 'm'"):
        set_step_mode(net, "multi")


def test_both_serve_spikingjelly_networks():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    net = nn.Sequential(neuron.LIFNode())
    set_step_mode(net, "m")
    net(torch.rand(2, 3))
    reset_net(net)
    assert net[0].v == 0.0
