"""The comparison of packed layers finds what is wrong, and says what its limits are."""

import pytest
import torch

from sparseflow.compress.sparsify.parity import Parity
from sparseflow.compress.sparsify.parity_gpu import compare_lowered, judge_lowered
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
