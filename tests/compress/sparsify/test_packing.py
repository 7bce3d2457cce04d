"""What can be packed is found: maps, tokens, counts, and which layers read them."""

from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.packing import Packing, Policy, still_image
from sparseflow.compress.sparsify.regions import Facts, find_regions, observe
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture
from sparseflow.trace._state import quiet
from tests.spiking_nets import Residual, alive


def planned(model: nn.Module, x: torch.Tensor, **policy: Any) -> tuple[Packing, dict[str, torch.fx.Node]]:
    traced = capture(model, x).graph_module
    assert traced is not None
    with quiet(model):
        facts = observe(traced, (x,))
    made = Packing(traced, facts, find_regions(traced, facts, tokens=True), Policy(**policy))
    made.plan()
    return made, {str(n.target if n.op == "call_module" else n.name): n for n in traced.graph.nodes}


def test_counts_of_a_residual_take_two_planes() -> None:
    x = torch.randn(2, 3, 8, 8)
    made, nodes = planned(alive(Residual(sew=True), x), x)
    total = next(n for n in made.maps if n not in made.regions and made.tops[n] == 2)
    assert made.planes(total) == 2
    assert made.plans[total].add is not None
    assert made.maps[total] == made.maps[nodes["sn1"]]
    assert total in made.wanted


class _Tokens(nn.Module):
    def __init__(self, merge: bool) -> None:
        super().__init__()
        self.merge = merge
        self.sn, self.attn, self.conv = LIFNode(step_mode="m"), LIFNode(step_mode="m"), nn.Conv1d(4, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.sn(x).flatten(3)
        heads = self.attn(tokens.reshape(*x.shape[:2], 2, 2, -1) * 0.7)
        y = heads.reshape(*tokens.shape)
        y = self.conv(y.flatten(0, 1)).unflatten(0, y.shape[:2])
        return y + heads.sum() if self.merge else y


@pytest.mark.parametrize("merge", [False, True])
def test_tokens_and_views_of_neurons(merge: bool) -> None:
    x = 2 * torch.randn(3, 2, 4, 5, 2)
    made, nodes = planned(_Tokens(merge).eval(), x)
    assert made.maps[nodes["sn"]] == (4, 5, 2)
    assert made.maps[nodes["flatten"]] == (4, 10, 1)
    assert nodes["flatten"] in made.tokens
    view = next(n for n in made.regions[nodes["unflatten"]].source.graph.nodes if n.name == "reshape_1")
    # Read by something else too, the neuron keeps its shape, and so do its spikes.
    assert (view in made.swapped) is not merge
    assert (nodes["unflatten"] in made.plans) is not merge
    kept, _ = planned(_Tokens(merge).eval(), x, keep=True)
    assert not kept.swapped


def test_only_small_counts_are_packed() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sn, self.conv = LIFNode(step_mode="m"), nn.Conv2d(4, 4, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            s = self.sn(x)
            for _ in range(4):
                s = s + s
            return self.conv(s.flatten(0, 1))

    made, _ = planned(Many().eval(), torch.randn(2, 2, 4, 3, 3))
    assert sorted(made.tops.values()) == [1, 2, 4, 8]
    assert not made.plans


def test_only_plain_repeats_of_an_image_are_one_image() -> None:
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    one, other = graph.call_method("unsqueeze", (x, 0)), graph.call_method("unsqueeze", (x, 1))
    facts = {x: Facts((2, 3, 4, 4)), one: Facts((1, 2, 3, 4, 4)), other: Facts((2, 1, 3, 4, 4))}

    def image(target: str, *args: Any) -> torch.fx.Node | None:
        return still_image(graph.call_method(target, args), facts)

    assert image("repeat", one, 5, 1, 1, 1, 1) is x
    assert image("repeat", one, (5, 1, 1, 1, 1)) is x
    assert image("expand", one, 5, -1, -1, -1, -1) is x
    assert image("repeat", one, 5, 1, 2, 1, 1) is None
    assert image("repeat", other, 5, 1, 1, 1, 1) is None
    assert image("expand", one, 5, 1, -1, -1, -1) is None
    assert image("repeat", x, 5, 1, 1, 1, 1) is None
    assert image("repeat", one, 5, 1, 1, 1) is None
    facts[x] = Facts((2, 3))
    assert image("repeat", one, 5, 1, 1, 1, 1) is None
