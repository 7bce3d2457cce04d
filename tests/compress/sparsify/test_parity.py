"""What counts as the same: exact away from the threshold, and the judge that says so."""

import torch
from torch import nn

from sparseflow.compress.sparsify.fuse import fuse
from sparseflow.compress.sparsify.parity import Parity, compare_blocks, compare_outputs, judge, rel_error
from sparseflow.compress.sparsify.regions import observe
from sparseflow.nn.functional import reset_net
from sparseflow.trace import capture
from tests.spiking_nets import chain


def test_blocks_agree_and_are_counted() -> None:
    model, x = chain()
    traced = capture(model, x).graph_module
    assert traced is not None
    with torch.no_grad():
        facts = observe(traced, (x,))
        reset_net(model)
        fused = fuse(traced, facts, {})
        found = compare_blocks(fused, (x,), dict(model.named_modules()))
    assert judge(found) is None
    assert found.mismatches == 0
    assert found.spikes == 4 * 2 * (16 * 64 + 32 * 64 + 32 * 4 + 32)
    assert 0 < found.layer_rel_err < 1e-5


def test_a_wrong_block_is_seen() -> None:
    model, x = chain()
    traced = capture(model, x).graph_module
    assert traced is not None
    with torch.no_grad():
        facts = observe(traced, (x,))
        reset_net(model)
        fused = fuse(traced, facts, {})
        modules = dict(model.named_modules())
        # The reference gets another layer than the block was made from.
        modules["features.4"] = nn.Conv2d(16, 32, 3, padding=1)
        modules["features.4"].forward = lambda y: torch.ones(*y.shape[:2], 32, *y.shape[3:])  # type: ignore[method-assign]
        found = compare_blocks(fused, (x,), modules)
    assert found.mismatches > 0
    assert "away from the threshold" in (judge(found) or "")


def test_judge() -> None:
    assert judge(Parity(rel_err=1e-4, top1=0.0)) is None
    assert judge(Parity(rel_err=0.2, top1=1.0, near=3)) is None
    assert "a layer" in (judge(Parity(layer_rel_err=2e-3)) or "")
    assert "a layer" in (judge(Parity(layer_rel_err=float("nan"))) or "")
    assert "decisions agree" in (judge(Parity(rel_err=float("nan"), top1=0.5)) or "")
    assert Parity(near=3).figures()["near"] == 3.0


def test_outputs() -> None:
    a = torch.tensor([[1.0, 2.0], [4.0, 3.0]])
    assert compare_outputs(a, a.flip(1)) == (0.25, 0.0)
    assert compare_outputs({"x": [a]}, {"x": [a]}) == (0.0, 1.0)
    assert compare_outputs(a, a[:1])[0] == float("inf")
    assert rel_error(torch.zeros(2), torch.ones(2)) == 1.0
    assert rel_error(torch.tensor([1]), torch.tensor([2])) == float("inf")
