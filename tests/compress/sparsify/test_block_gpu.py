"""The block rule takes convolutions of spikes on large maps, and says why it leaves the others."""

from typing import Any

import pytest
import torch
from torch import nn

import sparseflow.compress.sparsify.block_gpu as block_gpu
from sparseflow.compress.sparsify.block_gpu import block_layers, time_block_layers
from sparseflow.compress.sparsify.tune import Effort
from sparseflow.hardware import load_target
from sparseflow.nn.neurons import LIFNode
from sparseflow.trace import capture
from sparseflow.trace._state import quiet
from sparseflow.trace.workload import to_workload
from tests.spiking_nets import chain

QUICK = Effort(repeats=2, budget_s=0.05)


class _Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.sn = nn.Conv2d(3, 8, 3, padding=1), LIFNode()
        self.grouped, self.odd = nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.sn(self.first(x))
        out: torch.Tensor = self.grouped(y).mean() + self.odd(y).mean()
        return out


def test_the_rule_and_its_reasons() -> None:
    x = torch.randn(2, 3, 32, 40)
    for model, sizes, words in (
        (_Grouped().eval(), {}, {"grouped": "one group", "odd": "reflect", "first": "does not come from spikes"}),
        (nn.Sequential(nn.Conv2d(3, 4, 1), LIFNode(), nn.Conv2d(4, 4, 3)).eval(), {"2": 16}, {"0": "spikes"}),
    ):
        found = capture(model, x)
        made, refusals = block_layers(model, found, to_workload(found), load_target("h200"))
        assert made == sizes
        assert {r.what for r in refusals} == {"block"}
        reasons = {r.layer: r.reason for r in refusals}
        assert reasons.keys() == words.keys()
        assert all(word in reasons[name] for name, word in words.items())


@pytest.mark.parametrize(("dtype", "least", "most"), [(torch.float32, 0.0, 1e-6), (torch.float16, 1e-6, 4e-3)])
def test_layers_are_timed_and_compared_with_float32(dtype: torch.dtype, least: float, most: float) -> None:
    model, x = chain()
    workload = to_workload(capture(model, x))
    with quiet(model):
        timed = time_block_layers(model, (x,), {"features.4": 4}, workload, dtype, QUICK)
    assert timed.keys() == {"features.4"}
    assert timed["features.4"].kernels.keys() == {"library", "block"}
    assert least <= timed["features.4"].rel_err <= most
    assert not model.get_submodule("features.4")._forward_hooks


def test_an_error_of_the_two_stages_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = chain()
    workload = to_workload(capture(model, x))
    plain: Any = vars(block_gpu)["block_twin"]

    def wrong(*args: Any) -> nn.Module:
        twin = plain(*args)
        twin.sides = (0, 2)
        return twin

    monkeypatch.setattr(block_gpu, "block_twin", wrong)
    with quiet(model):
        timed = time_block_layers(model, (x,), {"features.4": 4}, workload, torch.float32, QUICK)
    assert timed["features.4"].rel_err > 0.1
