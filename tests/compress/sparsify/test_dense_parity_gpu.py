"""What a dense form rounds is counted on the true spikes of every layer, and on nothing else."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.dense_parity_gpu import compare_dense
from sparseflow.compress.sparsify.rivals import DenseForm
from sparseflow.nn.functional import reset_net
from sparseflow.nn.layers import Conv2d
from sparseflow.nn.neurons import IFNode, LIFNode
from tests.spiking_nets import Residual, alive, chain


def neurons(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, IFNode | LIFNode)]


@torch.no_grad()
@pytest.mark.parametrize("residual", [False, True])
def test_float32_changes_nothing_and_nothing_is_left_behind(residual: bool) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x) if residual else chain()[0]
    x = x if residual else chain()[1]
    want = model(x)
    reset_net(model)
    form = DenseForm(model, torch.float32)
    found = compare_dense(model, form, (x,))
    assert (found.mismatches, found.near) == (0, 0)
    assert found.spikes > 0
    assert not any(m._forward_hooks for m in (*model.modules(), *form.twin.modules()))
    torch.testing.assert_close(form(x), want)
    torch.testing.assert_close(model(x), want)


@torch.no_grad()
def test_only_the_layer_that_is_wrong_counts() -> None:
    """A spike that is lost early is not lost again in every layer behind."""
    x = torch.randn(3, 2, 4, 6, 6)
    layers = [Conv2d(4, 4, 3, padding=1), LIFNode(v_threshold=0.1, step_mode="m")]
    model = nn.Sequential(*copy.deepcopy(layers), *copy.deepcopy(layers), *copy.deepcopy(layers)).eval()
    for conv in model[::2]:
        conv.step_mode = "m"
    form = DenseForm(model, torch.float32)
    form.twin[0].weight.mul_(-1.0)
    alone = DenseForm(model[:2], torch.float32)
    alone.twin[0].weight.mul_(-1.0)
    found, first = compare_dense(model, form, (x,)), compare_dense(model[:2], alone, (x,))
    assert found.mismatches == first.mismatches > 0
    assert found.spikes == 3 * first.spikes


@torch.no_grad()
def test_half_precision_rounds_what_float32_does_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 16, 16, 16)
    model = nn.Sequential(nn.Conv2d(16, 32, 3), LIFNode(v_threshold=0.2), nn.Conv2d(32, 32, 3), LIFNode()).eval()
    found = compare_dense(model, DenseForm(model, torch.bfloat16), (x,))
    assert 0 < found.mismatch < 0.02


@torch.no_grad()
def test_single_steps_go_on_from_the_state_that_was_left() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.sn = nn.Linear(8, 64), IFNode(v_threshold=0.5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.sn(self.fc(x)) + self.sn(self.fc(x))
            return out

    model = Twice().eval()
    x = torch.rand(4, 8)
    found = compare_dense(model, DenseForm(model, torch.float32), (x,))
    assert (found.spikes, found.mismatches) == (2 * 4 * 64, 0)
    held = DenseForm(model, torch.float32, neurons=neurons(model))
    assert compare_dense(model, held, (x,)).mismatches == 0
    assert model.sn.v == 0.0


class _Strange(IFNode):
    """A neuron whose maths the registry does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0.25).to(x.dtype)


@torch.no_grad()
def test_neurons_of_unknown_maths_count_every_difference() -> None:
    model = nn.Sequential(nn.Linear(1, 3, bias=False), _Strange()).eval()
    model[0].weight.copy_(torch.tensor([[0.25 + 1e-6], [1.0], [-1.0]]))
    found = compare_dense(model, DenseForm(model, torch.float16), (torch.ones(5, 1),))
    assert (found.spikes, found.mismatches, found.near) == (15, 5, 0)


@torch.no_grad()
def test_a_compiled_form_is_judged_without_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()

    def refuse(*_: Any, **__: Any) -> Any:
        return lambda *_: pytest.fail("the compiled form ran")

    monkeypatch.setattr(torch, "compile", refuse)
    assert compare_dense(model, DenseForm(model, torch.float32, compiled=True), (x,)).mismatches == 0
