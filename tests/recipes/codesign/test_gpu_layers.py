"""The loop that keeps a GPU busy, on a machine that only keeps time."""

import time
from types import SimpleNamespace

import pytest
import torch

from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign import _gpu_layers as gpu

CALL_S = 4e-4


class Machine:
    """A queue of work that takes its time, and a meter of it."""

    name = "machine"

    def __init__(self):
        self.free_at = 0.0
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.free_at = max(self.free_at, time.perf_counter()) + CALL_S

    def wait(self, until=None):
        time.sleep(max(0.0, (until or self.free_at) - time.perf_counter()))

    def event(self):
        at = max(self.free_at, time.perf_counter())
        return SimpleNamespace(
            at=at, synchronize=lambda: self.wait(at), elapsed_time=lambda other: 1e3 * (other.at - at)
        )

    def start(self):
        return time.perf_counter(), self.replays

    def watts(self, mark):
        # Power is wrong as soon as the machine rests.
        began, replays = mark
        done = self.replays - replays - (self.free_at - time.perf_counter()) / CALL_S
        return 300.0 * done * CALL_S / (time.perf_counter() - began)


@pytest.fixture
def machine(monkeypatch):
    found = Machine()

    monkeypatch.setattr(gpu, "_recorded", lambda _run: found.replay)
    monkeypatch.setattr(gpu, "_event", found.event)
    monkeypatch.setattr(torch.cuda, "synchronize", found.wait)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: 0)
    return found


def test_a_call_has_the_time_of_the_machine_which_never_rests(machine):
    lat_ms, iqr_ms, power_w = gpu.measure_call(lambda: None, machine, 0.08)
    assert lat_ms == pytest.approx(1e3 * CALL_S, rel=0.05)
    assert 0 <= iqr_ms < lat_ms
    assert power_w == pytest.approx(300.0, rel=0.1)


def test_a_call_longer_than_the_window_is_timed_once(machine):
    lat_ms, iqr_ms, power_w = gpu.measure_call(lambda: None, None, 1e-4)
    assert lat_ms == pytest.approx(1e3 * CALL_S, rel=0.2)
    assert (iqr_ms, power_w) == (0.0, None)


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
