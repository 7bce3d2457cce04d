"""Every packed layer gets the fastest kernel that is right."""

import copy
from typing import Any

import pytest
import torch

import sparseflow.compress.sparsify.tune_gpu as tune_gpu
from sparseflow.compress.sparsify.memory import Memory
from sparseflow.compress.sparsify.tune import Effort
from sparseflow.compress.sparsify.tune_gpu import as_graph, time_lowered
from sparseflow.cost import Timing
from sparseflow.errors import UnsupportedError
from sparseflow.hardware import load_target
from sparseflow.nn.spike_layer_block import SpikeLayerBlock
from sparseflow.nn.spikes import Spikes
from sparseflow.records import Store
from sparseflow.trace import capture
from sparseflow.trace.workload import to_workload
from tests import fake_cuda_graph
from tests.compress.sparsify.test_lower_gpu import layers, lower
from tests.spiking_nets import Residual, alive

QUICK = Effort(repeats=2, budget_s=0.05)


@pytest.fixture
def job() -> Any:
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    return lower(model, x, precision="exact"), (x,), to_workload(capture(model, x))


def _memory(store: Store | None = None) -> Memory:
    return Memory(store, load_target("h200"))


def test_the_fastest_is_set_and_remembered(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"library": 2.0, "dense": 1.0}
    asked = []

    def measure(fns: Any, **_: Any) -> dict[str, Timing]:
        asked.append(tuple(fns))
        return {name: Timing.of([seconds[name]]) for name in fns}

    monkeypatch.setattr(tune_gpu, "measure", measure)
    lowered, args, workload = job
    store = Store("sqlite://")
    timed = time_lowered(lowered, args, workload, QUICK, _memory(store), kernels=("library", "dense"))
    assert {b.kernel for b in layers(lowered).values()} == {"dense"}
    assert all(t.kernels == seconds and t.original == 2.0 for t in timed.values())
    assert len(timed) == len(asked) == 3
    assert len(store) == 6
    time_lowered(lowered, args, workload, QUICK, _memory(store), kernels=("library", "dense"))
    assert len(asked) == 3


def test_refused_and_wrong_kernels_are_left_out(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered, args, workload = job
    plain = SpikeLayerBlock.forward

    def forward(self: SpikeLayerBlock, *args: Any) -> Any:
        if self.kernel == "cuda":
            raise UnsupportedError("no such unit")
        made = plain(self, *args) if self.kernel != "triton" else plain(_as(self, "library"), *args)
        if self.kernel == "triton" and isinstance(made, Spikes):
            return made._replace(words=made.words ^ 1)
        return made

    monkeypatch.setattr(SpikeLayerBlock, "forward", forward)
    timed = time_lowered(lowered, args, workload, QUICK, _memory(), kernels=("library", "triton", "cuda"))
    for found in timed.values():
        assert set(found.kernels) == {"library"}
        assert found.failures["cuda"] == "no such unit"
        assert "spikes differ" in found.failures["triton"]
    assert {b.kernel for b in layers(lowered).values()} == {"library"}


def _as(block: SpikeLayerBlock, kernel: str) -> SpikeLayerBlock:
    own = copy.copy(block)
    own.kernel = kernel
    return own


@torch.no_grad()
def test_a_graph_of_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    made = fake_cuda_graph.install(monkeypatch)
    x = torch.ones(3)
    replay = as_graph(lambda: x * 2, times=4)
    x.fill_(2.0)
    assert torch.equal(replay(), torch.full((3,), 4.0))
    assert len(made[0].calls) == 4
