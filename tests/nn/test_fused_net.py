"""FusedNet: the model's parameters and names, two ways to run."""

import copy

import pytest
import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.nn.functional import reset_net
from sparseflow.nn.fused_net import FusedNet, asks_for_gradient
from sparseflow.nn.layers import Conv2d
from sparseflow.nn.neurons import IFNode
from sparseflow.nn.spike_block import ConvBlock, DenseBlock, NeuronBlock


class _Ones(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)


def _net() -> FusedNet:
    return FusedNet(nn.Sequential(nn.Linear(3, 3), IFNode()), _Ones()).eval()


def test_names_and_parameters_are_the_models() -> None:
    net = _net()
    assert [name for name, _ in net.named_modules()] == ["", "0", "1"]
    assert set(net.state_dict()) == {"0.weight", "0.bias"}
    assert net.plain[0] is net.get_submodule("0")  # type: ignore[index]


def test_runs_fused_for_inference_only() -> None:
    net, x = _net(), torch.zeros(2, 3)
    assert torch.equal(net(x), torch.ones(2, 3))
    assert not net(x).requires_grad
    assert not torch.equal(net.train()(x), torch.ones(2, 3))
    assert net.plain.training
    net.eval()
    reset_net(net)
    y = x.clone().requires_grad_()
    net(y).sum().backward()
    assert y.grad is not None
    with torch.no_grad():
        assert torch.equal(net(y), torch.ones(2, 3))


def test_sees_an_input_that_asks_for_its_gradient_wherever_it_stands() -> None:
    x = torch.zeros(2, 3)
    assert not asks_for_gradient((x,), {"y": [x]})
    assert asks_for_gradient((x,), {"y": x.clone().requires_grad_()})
    assert asks_for_gradient(((x, [x.clone().requires_grad_()]),), {})
    net = _net()
    reset_net(net)
    assert net(input=x.clone().requires_grad_()).requires_grad


def test_copies_stay_whole() -> None:
    net = copy.deepcopy(_net())
    assert net.plain.get_submodule("0") is net.get_submodule("0")
    with pytest.warns(UserWarning, match="own forward"):
        net.double()
    assert net.get_submodule("0").weight.dtype == torch.float64
    assert isinstance(net.graph, _Ones)


def _spiking() -> tuple[FusedNet, nn.Module, Tensor]:
    """Return a fused network, the model it stands for, and an input."""
    model = nn.Sequential(Conv2d(2, 3, 3), IFNode(), Conv2d(3, 4, 3)).eval()
    own = copy.deepcopy(model)
    blocks = nn.Sequential(
        DenseBlock(model[0], kernel="dense"),  # type: ignore[arg-type]
        NeuronBlock(model[1], neuron_constants),
        ConvBlock(model[2], kernel="event"),  # type: ignore[arg-type]
    )
    return FusedNet(model, blocks), own, torch.randn(2, 2, 8, 8)


@torch.no_grad()
def test_training_packs_anew_even_what_was_written_through_data() -> None:
    net, own, x = _spiking()
    net(x)
    net.train()
    for one in (net, own):
        reset_net(one)
        for p in one.parameters():
            p.data.mul_(1.5)
    torch.testing.assert_close(net.eval()(x), own(x))


@torch.no_grad()
def test_runs_the_models_own_forward_once_cast_to_a_type_that_no_kernel_takes() -> None:
    net, own, x = _spiking()
    with pytest.warns(UserWarning, match="own forward"):
        net.double()
    assert torch.equal(net(x.double()), own.double()(x.double()))
    net.float()
    reset_net(net), reset_net(own)
    torch.testing.assert_close(net(x), own.float()(x))
    assert net._fits


class _Named(nn.Sequential):
    classes = 10

    def half_of(self, x: Tensor) -> Tensor:
        return x / 2

    def reset(self) -> None:
        self.resets = getattr(self, "resets", 0) + 1


def test_attributes_and_methods_of_the_model_stay_in_reach() -> None:
    net = FusedNet(_Named(nn.Linear(2, 1)), nn.Identity()).eval()
    assert (net.classes, net.half_of(torch.ones(1)).item()) == (10, 0.5)
    reset_net(net)
    assert copy.deepcopy(net).resets == 1
    with pytest.raises(AttributeError, match="_Named"):
        _ = net.nowhere


def test_a_graph_of_one_shape_leaves_others_to_the_model() -> None:
    net = FusedNet(nn.Sequential(nn.Linear(2, 2)), _Ones(), shapes=((3, 2),)).eval()
    x = torch.randn(3, 2)
    assert torch.equal(net(x), _Ones()(x))
    for other in (torch.randn(4, 2), torch.randn(1, 3, 2)):
        assert torch.equal(net(other), net.plain(other))
    assert torch.equal(net(torch.zeros(3, 2)), _Ones()(x))
