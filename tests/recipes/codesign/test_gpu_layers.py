"""The loop that keeps a GPU busy, on a machine that only keeps time."""

import time
from types import SimpleNamespace

import pytest
import torch

from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign import _gpu_layers as gpu

CALL_S = 4e-4


class Machine:
    """A queue of work that takes its time, with a counter of energy that moves in steps."""

    name = "machine"

    def __init__(self, watts=300.0, step_s=5e-3):
        self.free_at = 0.0
        self.watts, self.step_s = watts, step_s
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.free_at = max(self.free_at, time.perf_counter()) + CALL_S

    def wait(self):
        time.sleep(max(0.0, self.free_at - time.perf_counter()))

    def energy_mj(self):
        return 1e3 * self.watts * self.step_s * (time.perf_counter() // self.step_s)

    def event(self):
        at = max(self.free_at, time.perf_counter())
        return SimpleNamespace(
            at=at, query=lambda: time.perf_counter() >= at, elapsed_time=lambda other: 1e3 * (other.at - at)
        )


@pytest.fixture
def machine(monkeypatch):
    found = Machine()

    def graphed(_run):
        def call():
            found.replay()

        return call

    monkeypatch.setattr(gpu, "Graphed", graphed)
    monkeypatch.setattr(gpu, "_event", found.event)
    monkeypatch.setattr(torch.cuda, "synchronize", found.wait)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    return found


def test_a_call_has_the_time_and_power_of_the_machine(machine):
    lat_ms, iqr_ms, power_w = gpu.measure_call(lambda: None, machine, window_s=0.08, most_s=0.5)
    assert lat_ms == pytest.approx(1e3 * CALL_S, rel=0.05)
    assert 0 <= iqr_ms < lat_ms
    assert power_w == pytest.approx(300.0, rel=0.25)


def test_a_slow_counter_is_waited_for_until_the_longest_time(machine):
    machine.step_s = 10.0
    began = time.perf_counter()
    _, _, power_w = gpu.measure_call(lambda: None, machine, window_s=0.02, most_s=0.1)
    assert power_w is None
    assert time.perf_counter() - began >= 0.1


def test_copies_make_the_weights_pass_through_the_cache():
    small = LayerSpec(name="s", kind="mlp", tokens=8, channels=64, mlp_ratio=4.0)
    large = LayerSpec(name="l", kind="mlp", tokens=8, channels=2048, mlp_ratio=4.0)
    assert gpu.copies_of(small) == gpu.COPIES
    assert gpu.copies_of(large) == 1
    assert gpu.copies_of(small, 3) == 3


def test_a_chain_runs_every_module_and_each_runs_on_its_own_input():
    seen = []

    def body(tag):
        def module(x):
            seen.append((tag, float(x)))
            return x + 1

        return module, (torch.tensor(10.0 * tag),)

    bodies = [body(1), body(2)]
    assert gpu._chain(bodies, 2)() == 14
    assert seen == [(1, 10), (2, 11), (1, 12), (2, 13)]
    seen.clear()
    gpu._each(bodies, 1)()
    assert seen == [(1, 10), (2, 20)]
