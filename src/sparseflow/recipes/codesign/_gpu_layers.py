"""Layers on a GPU: CUDA graphs replayed without a pause, while the board's counter of energy is read."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign.measured_layers import built
from sparseflow.recipes.codesign.measurements import Measured
from sparseflow.recipes.codesign.meter import EdgeReader, Meter, mean_power
from sparseflow.recipes.graphed import Graphed

__all__ = ["COPIES", "copies_of", "measure_call", "measure_layer"]

COPIES = 8
"""Most modules of one layer that run in turn."""
_COLD_BYTES = 60e6
_NODES = 96
_KERNELS = {"attn": 7, "mlp": 5, "conv": 3, "scan": 22, "patch_embed": 2, "other": 1}
_CHAINED = ("attn", "mlp", "scan")
_CHUNK_S = 3e-3
_SETTLE_S = 10e-3
_MUCH_BYTES = 30e9
Body = tuple[nn.Module, tuple[Tensor, ...]]


def copies_of(layer: LayerSpec, most: int = COPIES) -> int:
    """Return how many modules of a layer run in turn, so that a cache holds as little of their weights as in a net."""
    return max(1, min(most, math.ceil(_COLD_BYTES / max(float(layer.weight_bytes), 1.0))))


def measure_layer(
    layer: LayerSpec, device: torch.device, meter: Meter | None, *, window_s: float, most_s: float
) -> Measured:
    """Measure one layer.

    Args:
        layer: what to measure.
        device: the GPU.
        meter: of energy, or None.
        window_s: shortest time of running.
        most_s: longest time, where the counter moves slowly.
    """
    before = torch.cuda.memory_allocated()
    first = built(layer, device)
    mem_mb = _peak_mb(first, before)
    bodies = [first, *(built(layer, device) for _ in range(copies_of(layer) - 1))]
    loops = math.ceil(_NODES / (len(bodies) * _KERNELS[layer.kind]))
    run = _chain(bodies, loops) if layer.kind in _CHAINED else _each(bodies, loops)
    lat_ms, iqr_ms, power_w = measure_call(run, meter, window_s=window_s, most_s=most_s)
    calls = len(bodies) * loops
    return Measured(layer=layer, lat_ms=lat_ms / calls, iqr_ms=iqr_ms / calls, mem_mb=mem_mb, power_w=power_w)


def measure_call(
    run: Callable[[], Any], meter: Meter | None, *, window_s: float, most_s: float
) -> tuple[float, float, float | None]:
    """Return median and quartile distance of one call in ms, and the mean power in W.

    The call is recorded as a CUDA graph and replayed without a pause for `window_s`, or until the counter has moved
    twice, at most `most_s`. The first half of the run brings clocks and power to where they stay; the second is timed.

    Args:
        run: kernels on fixed tensors.
        meter: of energy, or None.
        window_s: shortest time of running.
        most_s: longest time.
    """
    replay = Graphed(_drop(run))
    replay()
    replay()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(3):
        replay()
    torch.cuda.synchronize()
    calls = max(1, math.ceil(_CHUNK_S / ((time.perf_counter() - began) / 3)))
    times_ms, power_w = _keep_busy(replay, calls, meter, window_s, most_s)
    late = times_ms[len(times_ms) // 2 :]
    low, middle, high = statistics.quantiles(late, n=4) if len(late) > 1 else late * 3
    del replay
    if torch.cuda.memory_reserved() > _MUCH_BYTES:
        torch.cuda.empty_cache()
    return middle / calls, (high - low) / calls, power_w


def _keep_busy(
    replay: Callable[[], None], calls: int, meter: Meter | None, window_s: float, most_s: float
) -> tuple[list[float], float | None]:
    """Return the milliseconds of every stretch of calls, and the power."""
    ahead: deque[Any] = deque([_event()])
    times_ms: list[float] = []
    reader = None if meter is None else EdgeReader(meter)
    power, began = None, time.perf_counter()
    while True:
        while len(ahead) < 4:
            for _ in range(calls):
                replay()
            ahead.append(_event())
        while not ahead[1].query():
            if reader is not None:
                reader.poll()
        times_ms.append(ahead[0].elapsed_time(ahead[1]))
        ahead.popleft()
        spent = time.perf_counter() - began
        if reader is not None:
            power = mean_power(reader.edges, began + _SETTLE_S)
        if spent >= most_s or (spent >= window_s and (meter is None or power is not None)):
            torch.cuda.synchronize()
            return times_ms, power


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _peak_mb(body: Body, before: int) -> float:
    module, inputs = body
    with torch.no_grad():
        module(*inputs)
        torch.cuda.reset_peak_memory_stats()
        module(*inputs)
    return float(torch.cuda.max_memory_allocated() - before) / 1e6


def _chain(bodies: list[Body], loops: int) -> Callable[[], Any]:
    def run() -> Tensor:
        x = bodies[0][1][0]
        for _ in range(loops):
            for module, _ in bodies:
                x = module(x)
        return x

    return run


def _each(bodies: list[Body], loops: int) -> Callable[[], Any]:
    def run() -> None:
        for _ in range(loops):
            for module, inputs in bodies:
                module(*inputs)

    return run


def _drop(run: Callable[[], Any]) -> Callable[[], None]:
    def quiet() -> None:
        with torch.no_grad():
            run()

    return quiet
