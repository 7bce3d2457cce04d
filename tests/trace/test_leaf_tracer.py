"""Symbolic trace with leaves, and its comparison with a recording."""

import pytest
import torch
from torch import fx, nn

from sparseflow.errors import CaptureError
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture
from sparseflow.trace._leaf_tracer import describe_difference, edges_of_calls, edges_of_graph, leaf_trace


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), LIFNode(), nn.Flatten(), nn.Linear(3, 2))


def test_neurons_stay_whole() -> None:
    traced = leaf_trace(net())
    assert [n.target for n in traced.graph.nodes if n.op == "call_module"] == ["0", "1", "2", "3"]


def test_stock_trace_does_not_get_through_a_neuron() -> None:
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    model = nn.Sequential(nn.Linear(3, 3), neuron.LIFNode(step_mode="m"))
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever fx raises
        fx.symbolic_trace(model)
    assert [n.target for n in leaf_trace(model).graph.nodes if n.op == "call_module"] == ["0", "1"]


def test_a_trace_that_cannot_be_had_says_why() -> None:
    class Branch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x if x.sum() > 0 else -x

    with pytest.raises(CaptureError, match=r"symbolic trace of Branch failed: TraceError"):
        leaf_trace(Branch())


def test_traced_and_recorded_edges_are_the_same() -> None:
    model = net()
    found = capture(model, torch.rand(2, 3))
    expected = {("", "0"), ("0", "1"), ("1", "2"), ("2", "3")}
    assert edges_of_graph(leaf_trace(model).graph) == edges_of_calls(found.calls) == expected


class Shortcut(nn.Module):
    """An identity that runs before the branch beside it reads the same tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.short, self.conv, self.neuron = nn.Linear(3, 3), nn.Identity(), nn.Linear(3, 3), LIFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        side = self.short(x)
        out: torch.Tensor = self.neuron(self.conv(x) + side)
        return out


def test_an_identity_is_passed_through() -> None:
    model = Shortcut()
    found = capture(model, torch.rand(2, 3))
    assert found.how == "fx"
    expected = {("", "stem"), ("stem", "conv"), ("stem", "neuron"), ("conv", "neuron")}
    assert edges_of_graph(leaf_trace(model).graph) == edges_of_calls(found.calls) == expected
    assert "short" in found


def test_a_difference_is_named() -> None:
    text = describe_difference(frozenset({("a", "b")}), frozenset({("a", "b"), ("", "c")}))
    assert text.startswith("input -> c is in only one")
