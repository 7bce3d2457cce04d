"""A plan becomes a model: layers swapped, or the whole network fused."""

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.apply import FUSED, Sparsify, arguments, fused_graph, swap_layers
from sparseflow.errors import PlanError, UnsupportedError
from sparseflow.ir import Decision, Plan
from sparseflow.nn.functional import reset_net
from sparseflow.nn.fused_net import FusedNet
from sparseflow.nn.neurons import LIFNode
from sparseflow.nn.sparse_conv import SparseConv2d
from sparseflow.nn.sparse_linear import SparseLinear
from sparseflow.trace import capture, trace
from tests.spiking_nets import chain


def _plan(model: nn.Module, x: torch.Tensor, **decisions: Decision) -> Plan:
    named = {k.replace("_", "."): d for k, d in decisions.items()}
    return Plan.from_json(Plan(workload_hash=trace(model, x).hash, decisions=named).to_json())


@torch.no_grad()
def test_swaps_layers() -> None:
    model, x = chain()
    plan = _plan(
        model, x, features_4=Decision(kernel="event", schedule=(("block", 4),)), head_1=Decision(kernel="event"),
        features_8=Decision(kernel="dense"),
    )  # fmt: skip
    made, _ = Sparsify(x).apply(model, plan)
    conv = made.get_submodule("features.4")
    assert isinstance(conv, SparseConv2d)
    assert conv.block_size == 4
    assert isinstance(made.get_submodule("head.1"), SparseLinear)
    assert not isinstance(made.get_submodule("features.8"), SparseConv2d)
    assert made.state_dict().keys() == model.state_dict().keys()
    want = model(x)
    torch.testing.assert_close(made(x), want, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_fuses() -> None:
    model, x = chain()
    plan = _plan(model, x, features_4=Decision(kernel="event", fuse=FUSED))
    made, report = Sparsify(x).apply(model, plan)
    assert isinstance(made, FusedNet)
    assert report.captured_by == "fx"
    torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)


def test_an_unknown_kernel_leaves_nothing_behind() -> None:
    model, x = chain()
    made, _ = Sparsify(x).apply(model, _plan(model, x, features_4=Decision(kernel="warp")))
    with torch.no_grad(), pytest.raises(UnsupportedError, match="warp"):
        made(x)
    with pytest.raises(PlanError, match="sparse kernel"):
        Sparsify(x).apply(model, _plan(model, x, features_3=Decision(kernel="event")))
    with torch.no_grad():
        reset_net(model)
        model(x)


def test_fusing_needs_neurons() -> None:
    model, x = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()), torch.zeros(1, 3, 4, 4)
    with pytest.raises(UnsupportedError, match="no IF, LIF"):
        fused_graph(model, capture(model, x), x, {})


class _Loop(nn.Module):
    """Single steps in a loop, which fx unrolls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.sn = nn.Conv2d(3, 4, 3), LIFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.sn(self.conv(x)) for _ in range(3)])


def test_a_loop_over_steps_is_told_of_multi_step_mode() -> None:
    model, x = _Loop().eval(), torch.randn(2, 3, 8, 8)
    with torch.no_grad(), pytest.raises(UnsupportedError, match="multi-step mode"):
        fused_graph(model, capture(model, x), x, {})


def test_arguments_of_every_form_of_sample() -> None:
    x = torch.ones(1)
    assert arguments((x, 2)) == (x, 2)
    traced = torch.fx.symbolic_trace(nn.ReLU())
    assert arguments({"input": x}, traced) == (x,)
    with pytest.raises(UnsupportedError, match="as a tuple"):
        arguments({"input": x})
    assert swap_layers(traced, {}) is traced
