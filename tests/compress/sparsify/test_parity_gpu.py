"""The comparison of packed layers finds what is wrong, and says what its limits are."""

import pytest
import torch

from sparseflow.compress.sparsify.parity import Parity
from sparseflow.compress.sparsify.parity_gpu import Unlike, compare_lowered, judge_lowered, typical_error
from sparseflow.ops.lif import LIFParams
from tests.compress.sparsify.test_lower_gpu import layers, lower
from tests.spiking_nets import Residual, alive


@torch.no_grad()
@pytest.mark.parametrize("which", ["sn2", "stem"])
def test_a_wrong_weight_is_found(which: str) -> None:
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    lowered = lower(model, x, precision="exact")
    blocks = layers(lowered)
    modules = dict(model.named_modules())
    assert compare_lowered(lowered, (x,), modules).mismatches == 0
    block = lowered.graph_module.get_submodule("blocks.stem_3") if which == "stem" else blocks["sn2"]
    part = block.parts[0]
    part.fold, part.bn = lambda w, b, _: (w * 1.5, b), model.bn1
    assert compare_lowered(lowered, (x,), modules).mismatches > 0


def test_limits() -> None:
    assert judge_lowered(Parity(spikes=10_000, mismatches=2), "fp16") is None
    assert "3 of 10000" in (judge_lowered(Parity(spikes=10_000, mismatches=3), "fp16") or "")
    assert judge_lowered(Parity(spikes=10_000, mismatches=1), "exact") is not None
    assert judge_lowered(Parity(spikes=10_000, mismatches=30), "int8") is None
    assert "31 of 10000" in (judge_lowered(Parity(spikes=10_000, mismatches=31), "int8") or "")
    assert "largest output" in (judge_lowered(Parity(layer_rel_err=float("nan")), "fp16") or "")
    assert "finite" in (judge_lowered(Parity(rel_err=float("inf")), "fp16") or "")


def test_the_typical_error_is_that_of_half_the_samples() -> None:
    a = torch.tensor([[[1.0, 8.0], [2.0, 3.0], [4.0, 5.0]]])
    b = a.clone()
    b[0, 0, 1] = 0.0
    assert typical_error(a, b) == 0.0
    b[0, 1, 0] += 0.5
    assert typical_error(a, b) == 0.5 / 8
    assert typical_error({"a": a, "n": 3}, {"a": 2 * a, "n": 3}) == 5.0 / 8
    assert typical_error(torch.zeros(2, 1), torch.full((2, 1), 0.25)) == 0.25
    assert typical_error(torch.zeros(0, 3), torch.zeros(0, 3)) == typical_error(torch.tensor(1.0), torch.tensor(1.0))


def test_spikes_are_judged_by_the_potential_that_was_left() -> None:
    params = LIFParams(kind="if", v_threshold=1.0)
    steps = torch.tensor([[0.6, 1.0 + 1e-6], [0.6, 0.6]])
    right = Unlike.of(steps, torch.tensor([[0.0, 1.0], [1.0, 0.0]]), params)
    assert (right.mismatches, right.near) == (0, 0)
    torch.testing.assert_close(right.v, torch.tensor([0.0, 0.6]))
    # A spike too early: the next step starts from reset, and silence is right there.
    early = Unlike.of(steps, torch.tensor([[1.0, 1.0], [0.0, 0.0]]), params)
    assert (early.mismatches, early.near) == (1, 0)
    tipped = Unlike.of(steps, torch.tensor([[0.0, 0.0], [1.0, 0.0]]), params)
    assert (tipped.mismatches, tipped.near) == (0, 2)
    assert Unlike.of(steps[:1], torch.tensor([[1.0, 1.0]]), params, torch.tensor([0.4, 0.0])).mismatches == 0
