"""Layers on a processor: several at once in turned rounds, their memory as torch's allocator saw it."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.cost import measure
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.ir.env import quiet_profiler
from sparseflow.recipes.codesign._gpu_layers import copies_of
from sparseflow.recipes.codesign.measured_layers import built
from sparseflow.recipes.codesign.measurements import Measured
from sparseflow.recipes.codesign.meter import Meter

__all__ = ["measure_calls", "measure_layers"]

_COPIES = 3
_ROUND_S = 4e-3


def measure_layers(layers: Sequence[LayerSpec], meter: Meter | None, *, rounds: int, window_s: float) -> list[Measured]:
    """Measure layers side by side.

    Args:
        layers: a few.
        meter: of energy, or None.
        rounds: timed rounds.
        window_s: how long each runs for its power.
    """
    calls: dict[str, Callable[[], Any]] = {}
    copies: dict[str, int] = {}
    for layer in layers:
        bodies = [built(layer, torch.device("cpu")) for _ in range(copies_of(layer, _COPIES))]
        calls[layer.name], copies[layer.name] = _in_turn(bodies), len(bodies)
    found = measure_calls(calls, meter, rounds=rounds, window_s=window_s)
    results = []
    for layer in layers:
        lat_ms, iqr_ms, power_w = found[layer.name]
        n = copies[layer.name]
        mem_mb = peak_mb(built(layer, torch.device("cpu")))
        results.append(Measured(layer=layer, lat_ms=lat_ms / n, iqr_ms=iqr_ms / n, mem_mb=mem_mb, power_w=power_w))
    return results


def measure_calls(
    calls: dict[str, Callable[[], Any]], meter: Meter | None, *, rounds: int, window_s: float
) -> dict[str, tuple[float, float, float | None]]:
    """Return median and quartile distance of one call in ms, and its mean power in W, by name.

    Args:
        calls: by name.
        meter: of energy, or None.
        rounds: timed rounds.
        window_s: how long each runs for its power.
    """
    with torch.no_grad():
        timings = measure(calls, warmup=2, repeats=rounds, min_time_s=_ROUND_S)
        powers = {name: None if meter is None else _power(call, meter, window_s) for name, call in calls.items()}
    return {name: (1e3 * t.median_s, 1e3 * t.iqr_s, powers[name]) for name, t in timings.items()}


def peak_mb(body: tuple[nn.Module, tuple[Tensor, ...]]) -> float:
    """Return parameters, inputs and the most that one call held beside them, in 1e6 bytes."""
    module, inputs = body
    quiet_profiler()
    with torch.no_grad():
        module(*inputs)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
            out = module(*inputs)
    held = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    del out
    given = (*module.parameters(), *module.buffers(), *inputs)
    return float(sum(t.numel() * t.element_size() for t in given) + most) / 1e6


def _power(call: Callable[[], Any], meter: Meter, window_s: float) -> float | None:
    call()
    mark, began = meter.start(), time.perf_counter()
    while time.perf_counter() - began < window_s:
        call()
    return meter.watts(mark)


def _in_turn(bodies: list[tuple[nn.Module, tuple[Tensor, ...]]]) -> Callable[[], Any]:
    def run() -> None:
        for module, inputs in bodies:
            module(*inputs)

    return run
