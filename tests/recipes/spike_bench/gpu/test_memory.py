import math
from types import SimpleNamespace

import torch
from torch import nn

from sparseflow.ops.spike_layer import pack_layer
from sparseflow.recipes.spike_bench.gpu import memory
from sparseflow.recipes.spike_bench.gpu.memory import memory_stage, waits, waits_within, weight_bytes
from sparseflow.recipes.spike_bench.gpu.nets import NetCase
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

CPU = torch.device("cpu")
CONFIG = GpuBenchConfig(device="cpu", kernels=("dense",))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4, bias=False)
        self.register_buffer("table", torch.zeros(2))
        packed = pack_layer([torch.zeros(8, 1, 1, 1)], None, None, kernel="dense")
        self.packed = {"dense": (packed,)}
        self.scratch = torch.zeros(1000)


def test_weights_are_parameters_buffers_and_packed_tensors_each_counted_once():
    assert weight_bytes(Net()) == 4 * (16 + 2 + 8)


def stub(monkeypatch):
    def synthetic(builder, side, count, device, *, steps, seed):
        x = torch.zeros(count, 3, side, side)
        return NetCase(name="n", builder=builder, model=nn.Flatten(), x=x, trained=False)

    monkeypatch.setattr(memory, "synthetic", synthetic)
    monkeypatch.setattr(memory, "optimized", lambda model, x, precision, effort: (nn.Flatten(), None))


def test_the_stage_compares_peaks_less_weights_and_input(monkeypatch):
    stub(monkeypatch)
    x_bytes = 2 * 3 * 4 * 4 * 4
    peaks = iter([x_bytes + 900, x_bytes + 100])
    result = memory_stage(CONFIG, Budget(9.0), CPU, batch=2, side=4, find_peak=lambda run, device: next(peaks))
    assert result.errors == {}
    less, waiting = result.checks
    assert (less.value, less.bound) == (9.0, 8.0)
    assert (waiting.value, waiting.rule) == (0, "==")


def test_what_breaks_fails_both_checks(monkeypatch):
    stub(monkeypatch)

    def broken(run, device):
        raise RuntimeError("no memory")

    result = memory_stage(CONFIG, Budget(9.0), CPU, batch=2, side=4, find_peak=broken)
    assert result.errors
    assert math.isnan(result.checks[0].value)
    assert not result.checks[1].ok


def event(name, start, end=None):
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end or start))


def test_waits_count_within_the_forward_only():
    events = [
        event("cudaDeviceSynchronize", 1.0),
        event("the forward", 2.0, 9.0),
        event("cudaLaunchKernel", 3.0),
        event("cudaStreamSynchronize", 4.0),
        event("Memcpy DtoH (Device -> Pinned)", 5.0),
        event("cudaDeviceSynchronize", 10.0),
    ]
    assert waits_within(events, "the forward") == ["cudaStreamSynchronize", "Memcpy DtoH (Device -> Pinned)"]
    assert waits_within(events, "nothing") == ["the profiler saw no 'nothing'"]
    assert waits(lambda: None, CPU) == []
