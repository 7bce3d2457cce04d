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
from sparseflow.nn.spikes import Spikes, pack
from sparseflow.nn.stem_block import StemBlock
from sparseflow.ops.spike_layer.gate import set_bits
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


SLOW = {"library": 9e-6, "cuda": 2e-6, "int8": 5e-6}


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Kernels that all compute densely, and take as long as this says; "event" takes longer with every spike."""
    given = {**SLOW, "event": 1e-6, "slope": 4e-6, "gate": 3e-7}
    seen = {"density": 0.0}
    plain = SpikeLayerBlock.forward

    def forward(self: SpikeLayerBlock, *args: Any) -> Any:
        bits = args[0].words.numel() // args[0].words.shape[-1] * args[0].channels * args[0].planes
        seen["density"] = set_bits(args[0].words) / bits
        return plain(self if self.kernel == "library" else _as(self, "dense"), *args)

    def measure(fns: Any, **_: Any) -> dict[str, Timing]:
        found = {}
        for name, fn in fns.items():
            fn()
            event = given["event"] + given["slope"] * seen["density"]
            own = event if name == "event" else min(event, given["cuda"]) + given["gate"]
            found[name] = Timing.of([given.get(name, own) if name != "event" else own])
        return found

    monkeypatch.setattr(SpikeLayerBlock, "forward", forward)
    monkeypatch.setattr(tune_gpu, "measure", measure)
    return given


@pytest.fixture
def sparse() -> Any:
    """Layers of a network that is silent on its sample."""
    x = torch.randn(2, 3, 8, 8)
    model = alive(Residual(sew=True), x)
    for module in model.modules():
        if hasattr(module, "v_threshold"):
            module.v_threshold = 1e3
    return lower(model, x, precision="exact"), (x,), to_workload(capture(model, x))


KERNELS = ("library", "cuda", "int8", "event")


def test_few_spikes_run_behind_a_gate(sparse: Any, paced: dict[str, float]) -> None:
    store = Store("sqlite://")
    for _ in range(2):
        timed = time_lowered(*sparse, QUICK, _memory(store), kernels=KERNELS)
        for name, block in layers(sparse[0]).items():
            found = timed[f"blocks.{name}"]
            assert block.kernel == "gated"
            assert block.crossover == found.crossover == pytest.approx(0.25, abs=0.02)
            assert found.kernels["gated"] < found.kernels["cuda"]
            assert set(found.buckets) >= {0.003, 0.015, 0.05, 0.15, 0.4}
        kept, paced["event"] = len(store), 1e-6
    assert kept == len(store)


def test_a_gate_that_costs_too_much_leaves_the_steady_kernel(sparse: Any, paced: dict[str, float]) -> None:
    paced["gate"] = 0.99e-6
    timed = time_lowered(*sparse, QUICK, _memory(), kernels=KERNELS)
    assert {b.kernel for b in layers(sparse[0]).values()} == {"cuda"}
    for found in timed.values():
        assert found.crossover is None
        assert "behind a gate" in found.failures["event"]


def test_a_kernel_that_wins_at_every_density_needs_no_gate(sparse: Any, paced: dict[str, float]) -> None:
    paced["slope"] = 1e-6
    timed = time_lowered(*sparse, QUICK, _memory(), kernels=KERNELS)
    assert {b.kernel for b in layers(sparse[0]).values()} == {"event"}
    assert all(found.crossover is None and "gated" not in found.kernels for found in timed.values())


def test_without_a_tensor_core_kernel_there_is_nothing_behind_the_gate(sparse: Any, paced: dict[str, float]) -> None:
    timed = time_lowered(*sparse, QUICK, _memory(), kernels=("library", "event"))
    assert {b.kernel for b in layers(sparse[0]).values()} == {"event"}
    assert all("no tensor-core kernel" in found.failures["gated"] for found in timed.values())


def test_the_faster_tensor_core_kernel_stands_behind_the_gate(sparse: Any, paced: dict[str, float]) -> None:
    paced["int8"] = 1.9e-6
    time_lowered(*sparse, QUICK, _memory(), kernels=KERNELS)
    assert {b.kernel for b in layers(sparse[0]).values()} == {"gated int8"}


def test_rounded_weights_may_change_more_spikes(monkeypatch: pytest.MonkeyPatch) -> None:
    a = pack(torch.zeros(4, 1, 64, 8, 8))
    b = a._replace(words=a.words.clone())
    b.words.view(-1)[:40] = 1
    assert tune_gpu._difference(a, b, tune_gpu.ROUNDED_OFF) is None
    assert "spikes differ" in (tune_gpu._difference(a, b, tune_gpu.SPIKES_OFF) or "")


def test_the_image_s_layer_takes_what_runs_and_says_why_the_rest_does_not(job: Any) -> None:
    lowered, (x,), workload = job
    name = next(n for n in lowered.blocks if isinstance(lowered.graph_module.get_submodule(n), StemBlock))
    block = lowered.graph_module.get_submodule(name)
    tuner = tune_gpu._Tuner(lowered, workload, QUICK, _memory(), ("library",), 0.02)
    block.kernel = "triton"
    with torch.no_grad():
        timed = tuner.time_stem(block, name, x)
    assert set(timed.kernels) == {"library"}
    assert block.kernel == "library"
    assert "Triton takes CUDA tensors" in timed.failures["triton"]


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


def test_every_kernel_that_a_block_has_is_tried() -> None:
    behind_gates = {"gated", "gated int8"}
    assert set(tune_gpu.KERNELS_GPU) == set(SpikeLayerBlock.kernels) - behind_gates - {"dense"}
    assert set(tune_gpu.GATED.values()) == behind_gates
