"""FusedNet: the model's parameters and names, two ways to run."""

import copy

import torch
from torch import Tensor, nn

from sparseflow.nn.functional import reset_net
from sparseflow.nn.fused_net import FusedNet, asks_for_gradient
from sparseflow.nn.neurons import IFNode


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
    assert net.double().get_submodule("0").weight.dtype == torch.float64
    assert isinstance(net.graph, _Ones)
