"""A capture leaves no trace in the model."""

import threading
from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.errors import CaptureError
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture
from sparseflow.trace._state import one_at_a_time, quiet, reset_state


class Net(nn.Module):
    """Statistics, a neuron, noise, a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.lif = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), LIFNode()
        self.dropout = nn.Dropout(0.5)
        self.seen = 0
        self.register_buffer("last", torch.zeros(1))
        self.kept = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        self.last = x.mean().reshape(1)
        self.kept += 1
        self.new = x
        return self.lif(self.dropout(self.bn(self.conv(x)))) + torch.rand(1)


def state_of(model: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {k: v.clone() for k, v in model.state_dict().items()}
    for name, module in model.named_modules():
        found[f"{name}.training"] = module.training
        found[f"{name}.hooks"] = len(module._forward_hooks) + len(module._forward_pre_hooks)
        found[f"{name}.attributes"] = sorted(module.__dict__)
    for name, parameter in model.named_parameters():
        found[f"{name}.requires_grad"] = parameter.requires_grad
        found[f"{name}.grad"] = parameter.grad
    return found


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else bool(a == b)


@pytest.mark.parametrize("training", [True, False])
def test_everything_is_put_back(training: bool) -> None:
    model = Net().train(training)
    model.conv.weight.requires_grad_(False)
    model(torch.rand(1, 1, 5, 5) * 9)
    before, voltage, seen = state_of(model), model.lif.v.detach().clone(), model.seen
    sample = torch.rand(1, 1, 5, 5)
    torch.manual_seed(3)
    noise = torch.rand(2)
    torch.manual_seed(3)
    capture(model, sample)
    assert torch.equal(torch.rand(2), noise)
    after = state_of(model)
    assert before.keys() == after.keys()
    assert [k for k in before if not same(before[k], after[k])] == []
    assert same(model.lif.v, voltage)
    assert model.seen == seen
    assert float(model.kept) == 1.0


def test_everything_is_put_back_after_an_error() -> None:
    model = Net().train()
    before = state_of(model)
    with pytest.raises(CaptureError):
        capture(model, torch.rand(1, 7, 5, 5))
    after = state_of(model)
    assert [k for k in before if not same(before[k], after[k])] == []
    assert torch.is_grad_enabled()
    with torch.no_grad():
        model(torch.rand(1, 1, 5, 5))


def test_the_model_runs_from_fresh_state_in_eval_mode() -> None:
    model = Net().train()
    model.lif.v = torch.full((1, 2, 3, 3), 0.9)
    with quiet(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        assert not isinstance(model.lif.v, torch.Tensor)
    assert model.training
    assert isinstance(model.lif.v, torch.Tensor)


def test_reset_leaves_modules_alone_that_hold_no_spiking_state() -> None:
    class Careless(nn.Module):
        def reset(self) -> None:
            raise AssertionError("this reset means something else")

    reset_state(nn.Sequential(Careless()))


def test_a_model_that_writes_into_its_input_leaves_the_sample_alone() -> None:
    sample = torch.randn(2, 3)
    before = sample.clone()
    found = capture(nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 3)), sample)
    assert torch.equal(sample, before)
    assert found.how == "fx"


def test_spikingjelly_state() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    model = nn.Sequential(nn.Linear(3, 3), neuron.LIFNode())
    model(torch.rand(2, 3))
    voltage = model[1].v.clone()
    capture(model, torch.rand(5, 3))
    assert torch.equal(model[1].v, voltage)


def test_gradients_still_flow_afterwards() -> None:
    model = nn.Sequential(nn.Linear(3, 3), LIFNode())
    capture(model, torch.rand(2, 3))
    model(torch.rand(2, 3)).sum().backward()
    assert model[0].weight.grad is not None


def test_threads_trace_and_measure_one_after_another() -> None:
    inside, seen = [0], []

    @one_at_a_time
    def work() -> None:
        inside[0] += 1
        seen.append(inside[0])
        capture(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2))
        inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == [1, 1, 1, 1]
    assert inside == [0]
