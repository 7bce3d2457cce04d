"""Layers on a GPU: CUDA graphs replayed without a pause, while the board samples its power."""

import copy
import gc
import math
import statistics
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign.measured_layers import built
from sparseflow.recipes.codesign.measurements import Measured
from sparseflow.recipes.codesign.meter import Meter

__all__ = ["COPIES", "copies_of", "measure_call", "measure_layer", "peak_mb"]

COPIES = 8
"""Most modules of one layer that run in turn."""
_COLD_BYTES = 60e6
_NODES = 96
_KERNELS = {"attn": 7, "mlp": 5, "conv": 3, "scan": 22, "patch_embed": 2, "other": 1}
_CHAINED = ("attn", "mlp", "scan")
_CHUNK_S = 3e-3
_AHEAD = 3
_MUCH_BYTES = 30e9
Body = tuple[nn.Module, tuple[Tensor, ...]]


def copies_of(layer: LayerSpec, most: int = COPIES) -> int:
    """Return how many modules of a layer run in turn, so that a cache holds as little of their weights as in a net."""
    return max(1, min(most, math.ceil(_COLD_BYTES / max(float(layer.weight_bytes), 1.0))))


def measure_layer(layer: LayerSpec, device: torch.device, meter: Meter | None, window_s: float) -> Measured:
    """Measure one layer.

    Args:
        layer: what to measure.
        device: the GPU.
        meter: of power, or None.
        window_s: time of running.
    """
    first = built(layer, device)
    mem_mb = peak_mb(first)
    # A copy is made faster than a fresh module, and runs as fast.
    bodies = [first, *(copy.deepcopy(first) for _ in range(copies_of(layer) - 1))]
    loops = math.ceil(_NODES / (len(bodies) * _KERNELS[layer.kind]))
    run = _chain(bodies, loops) if layer.kind in _CHAINED else _each(bodies, loops)
    lat_ms, iqr_ms, power_w = measure_call(run, meter, window_s)
    calls = len(bodies) * loops
    return Measured(layer=layer, lat_ms=lat_ms / calls, iqr_ms=iqr_ms / calls, mem_mb=mem_mb, power_w=power_w)


def measure_call(run: Callable[[], Any], meter: Meter | None, window_s: float) -> tuple[float, float, float | None]:
    """Return median and quartile distance of one call in ms, and the mean power in W.

    The call is recorded as a CUDA graph and replayed without a pause. The first half of the run brings clocks and
    power to where they stay; the second is timed.

    Args:
        run: kernels on fixed tensors.
        meter: of power, or None.
        window_s: time of running.
    """
    replay = _recorded(run)
    replay()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(3):
        replay()
    torch.cuda.synchronize()
    calls = max(1, math.ceil(_CHUNK_S / ((time.perf_counter() - began) / 3)))
    times_ms, power_w = _keep_busy(replay, calls, meter, window_s)
    late = times_ms[len(times_ms) // 2 :]
    low, middle, high = statistics.quantiles(late, n=4) if len(late) > 1 else late * 3
    del replay
    if torch.cuda.memory_reserved() > _MUCH_BYTES:
        torch.cuda.empty_cache()
    return middle / calls, (high - low) / calls, power_w


def _keep_busy(
    replay: Callable[[], None], calls: int, meter: Meter | None, window_s: float
) -> tuple[list[float], float | None]:
    """Return the milliseconds of every stretch of calls, and the power."""
    mark = None if meter is None else meter.start()
    began = time.perf_counter()
    ahead: deque[Any] = deque([_event()])
    times_ms: list[float] = []
    while not times_ms or time.perf_counter() - began < window_s:
        while len(ahead) < _AHEAD:
            for _ in range(calls):
                replay()
            ahead.append(_event())
        ahead[1].synchronize()
        times_ms.append(ahead[0].elapsed_time(ahead[1]))
        ahead.popleft()
    # What was begun still runs, so that the last samples are of this work too.
    power_w = None if meter is None else meter.watts(mark)
    torch.cuda.synchronize()
    return times_ms, power_w


def _event() -> Any:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def peak_mb(body: Body) -> float:
    """Return parameters, inputs and the most that one call held beside them, in 1e6 bytes."""
    module, inputs = body
    with torch.no_grad():
        module(*inputs)
        # What an earlier layer left behind must not be freed while this one is watched.
        gc.collect()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        module(*inputs)
    given = (*module.parameters(), *module.buffers(), *inputs)
    own = sum(t.numel() * t.element_size() for t in given)
    return float(own + torch.cuda.max_memory_allocated() - before) / 1e6


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


@cache
def _side_stream() -> Any:
    """Return one stream for all recordings, since cuBLAS holds work space for each that it sees."""
    return torch.cuda.Stream()  # type: ignore[no-untyped-call]


def _recorded(run: Callable[[], Any]) -> Callable[[], None]:
    """Return the replay of a CUDA graph of the call.

    Unlike `torch.cuda.graph` this neither collects garbage nor gives memory back, which takes longer than many a layer.
    """
    stream = _side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.stream(stream):
        run()
        stream.synchronize()
        graph.capture_begin()
        try:
            run()
        finally:
            graph.capture_end()
    torch.cuda.current_stream().wait_stream(stream)
    return graph.replay
