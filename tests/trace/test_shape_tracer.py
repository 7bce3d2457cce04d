"""A trace along a sample resolves branches on shapes, and refuses to read values."""

import pytest
import torch
from torch import nn

from sparseflow.errors import CaptureError
from sparseflow.trace import capture
from sparseflow.trace._leaf_tracer import leaf_trace
from sparseflow.trace._shape_tracer import shape_trace
from sparseflow.trace._state import quiet
from tests.spiking_nets import Branches


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 2, 3, 5, 4), (1, 3, 1, 1)])
def test_branches_on_shapes_are_resolved(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model, x = Branches().eval(), torch.randn(shape)
    with pytest.raises(CaptureError, match="control flow"):
        leaf_trace(model)
    with quiet(model):
        traced = shape_trace(model, (x,), {})
    with quiet(model):
        want = model(x)
    for given in (x, torch.randn(shape)):
        with quiet(model):
            want = model(given)
        with quiet(model):
            assert torch.equal(traced(given), want)
    assert {n.target for n in traced.graph.nodes if n.op == "call_module"} == {"conv", "neuron", "out"}
    assert not any(n.target in ("size", "dim") or "shape" in n.args for n in traced.graph.nodes)


def test_keyword_arguments_and_captures() -> None:
    model, x = Branches().eval(), torch.randn(2, 3, 4, 4)
    for sample in (x, (x,), {"x": x}):
        found = capture(model, sample)
        assert found.how == "fx"
        assert found.graph_shapes == ((None, 3, 4, 4),)
        assert any("(N, 3, 4, 4) only" in note for note in found.notes)
    plain = capture(nn.Sequential(nn.Linear(2, 2)), torch.ones(1, 2))
    assert plain.how == "fx"
    assert plain.graph_shapes is None


class _Reads(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "branch":
            return x if x.sum() > 0 else -x
        if self.how == "item":
            return x * x.max().item()
        if self.how == "equal":
            return x if torch.equal(x, x * 1.0) else -x
        return x[: int(x.sum())] if self.how == "int" else x.tolist()  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["branch", "item", "equal", "int", "list"])
def test_values_are_not_baked_in(how: str) -> None:
    with pytest.raises(CaptureError, match="along the sample"):
        shape_trace(_Reads(how), (torch.ones(3),), {})
    found = capture(nn.Sequential(_Reads(how)), torch.ones(3)) if how in ("branch", "equal") else None
    assert found is None or found.how == "record"


def test_what_is_no_tensor_is_refused() -> None:
    class Scaled(nn.Module):
        def forward(self, x: torch.Tensor, by: float) -> torch.Tensor:
            return x * by if x.ndim else x

    with pytest.raises(CaptureError, match="no tensor"):
        shape_trace(Scaled(), (torch.ones(2), 2.0), {})
