"""A compiled graph of packed layers gives what the graph gives, and follows its weights."""

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.compiled import CompiledGraph, glue
from sparseflow.compress.sparsify.lower_gpu import Policy, lower_gpu
from sparseflow.compress.sparsify.regions import observe
from sparseflow.trace import capture
from sparseflow.trace._state import quiet
from tests.spiking_nets import chain


def lowered(kernel: str) -> tuple[nn.Module, nn.Module, torch.Tensor]:
    model, x = chain()
    traced = capture(model, x).graph_module
    assert traced is not None
    with quiet(model):
        facts = observe(traced, (x,))
    return lower_gpu(traced, facts, Policy(precision="exact", kernel=kernel)).graph_module, model, x


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["library", "dense"])
def test_follows_the_weights(kernel: str) -> None:
    graph, model, x = lowered(kernel)
    compiled = CompiledGraph(graph, backend="aot_eager")
    before = compiled(x)
    assert torch.equal(before, graph(x))
    model.get_submodule("features.4").weight.mul_(-1.0)
    want = graph(x)
    assert not torch.equal(want, before)
    model.get_submodule("features.4").weight.mul_(-1.0)
    assert torch.equal(compiled(x), before)
    model.get_submodule("features.4").weight.mul_(-1.0)
    assert torch.equal(compiled(x), want)
    model.get_submodule("features.4").weight.data.mul_(-1.0)
    compiled.forget()
    for block in graph.modules():
        forget = getattr(type(block), "forget", None)
        if forget is not None:
            forget(block)
    assert torch.equal(compiled(x), before)


def test_counts_what_runs_between_packed_layers() -> None:
    graph, _, _ = lowered("library")
    assert glue(graph) == 2
    assert glue(nn.ReLU()) == 0
    assert glue(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.Flatten(), nn.Tanh()))) == 3


@torch.no_grad()
def test_a_graph_without_packed_layers_is_compiled_too() -> None:
    x = torch.rand(2, 3)
    assert torch.equal(CompiledGraph(nn.Tanh(), backend="eager")(x), x.tanh())
