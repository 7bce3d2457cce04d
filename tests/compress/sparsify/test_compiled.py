"""A graph whose glue is compiled gives what the graph gives, and its layers follow their weights."""

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import fx, nn

from sparseflow.compress.sparsify.compiled import CompiledGraph, _divided, glue
from sparseflow.compress.sparsify.lower_gpu import Policy, lower_gpu
from sparseflow.compress.sparsify.regions import observe
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture
from sparseflow.trace._state import quiet
from tests.spiking_nets import Branches, alive, chain


def lowered(model: nn.Module, x: torch.Tensor, kernel: str = "library") -> fx.GraphModule:
    traced = capture(model, x).graph_module
    assert traced is not None
    with quiet(model):
        facts = observe(traced, (x,))
    return lower_gpu(traced, facts, Policy(precision="exact", kernel=kernel)).graph_module


class _Gated(nn.Module):
    """Layers of spikes with a gate of floats between them."""

    def __init__(self) -> None:
        super().__init__()
        self.sn, self.conv, self.gate = LIFNode(step_mode="m"), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 4)
        self.sn2, self.out = LIFNode(step_mode="m"), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        steps, batch = x.shape[:2]
        y = self.conv(self.sn(x).flatten(0, 1)).unflatten(0, (steps, batch))
        y = 4.0 * y * torch.sigmoid(self.gate(y.mean((-2, -1))))[..., None, None] + 0.5
        y = self.out(self.sn2(y).flatten(0, 1)).unflatten(0, (steps, batch))
        return torch.tanh(y).mean(0) * 2.0


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["library", "dense"])
def test_follows_the_weights(kernel: str) -> None:
    torch.manual_seed(0)
    model, x = _Gated().eval(), 2 * torch.randn(3, 2, 4, 5, 5)
    graph = lowered(model, x, kernel)
    assert glue(graph) >= 4
    compiled = CompiledGraph(graph, backend="aot_eager")
    before = compiled(x)
    torch.testing.assert_close(before, graph(x))
    for name in ("out", "conv"):
        model.get_submodule(name).weight.mul_(-1.0)
        want = graph(x)
        assert not torch.equal(want, before)
        torch.testing.assert_close(compiled(x), want)
        before = want
    assert {id(m) for m in graph.modules()} <= {id(m) for m in compiled.modules()}


def test_only_pieces_of_glue_are_compiled() -> None:
    graph = lowered(_Gated().eval(), 2 * torch.randn(3, 2, 4, 5, 5))
    pieces: Any = dict(_divided(graph, "eager").named_children())
    kinds = [type(piece).__name__ == "OptimizedModule" for name, piece in pieces.items() if name.startswith("submod")]
    # The mean, the gated sum and what makes the output; the gate's linear layer is one of our own.
    assert kinds == [False, True, False, True, False, True]


@torch.no_grad()
def test_a_transformer_s_glue() -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 5, 4)
    model = alive(Branches(), x)
    traced = capture(model, x).graph_module
    assert traced is not None
    with quiet(model):
        want = traced(x)
    with quiet(model):
        torch.testing.assert_close(CompiledGraph(traced, backend="aot_eager")(x), want)


def test_counts_what_runs_between_packed_layers() -> None:
    model, x = chain()
    assert glue(lowered(model, x)) <= 2
    assert glue(nn.ReLU()) == 0
    assert glue(fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.Flatten(), nn.Tanh()))) == 2


@torch.no_grad()
def test_copies_and_files() -> None:
    x = 2 * torch.randn(3, 2, 4, 5, 5)
    compiled = CompiledGraph(lowered(_Gated().eval(), x), backend="eager")
    for made in (copy.deepcopy(compiled), pickle.loads(pickle.dumps(compiled))):
        torch.testing.assert_close(made(x), compiled(x))
