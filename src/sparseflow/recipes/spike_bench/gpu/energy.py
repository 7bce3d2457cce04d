"""Energy of a forward, from the counter that the device itself integrates."""

import importlib
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

__all__ = ["joules"]


def joules(run: Callable[[], Any], images: int, device: torch.device, seconds: float = 2.0) -> dict[str, float] | None:
    """Return joules an image and mean watts over at least two seconds of forwards, or None without a counter.

    The counter is NVML's total energy of the device, so idle power is in it.

    Args:
        run: one forward.
        images: images of one forward.
        device: the device.
        seconds: least time to run, in seconds.
    """
    counter = _counter(device)
    if counter is None:
        return None
    for _ in range(5):
        run()
    torch.cuda.synchronize(device)
    begin_j, begin, count = counter(), time.perf_counter(), 0
    while time.perf_counter() - begin < max(seconds, 2.0):
        for _ in range(10):
            run()
        count += 10
        torch.cuda.synchronize(device)
    spent_j, spent_s = counter() - begin_j, time.perf_counter() - begin
    if not spent_j > 0:
        return None
    return {"joules_an_image": spent_j / (count * images), "watts": spent_j / spent_s, "seconds": spent_s}


def _counter(device: torch.device) -> Callable[[], float] | None:
    """Return a function that reads the joules spent since the driver started, or None."""
    if device.type != "cuda":
        return None
    with suppress(Exception):
        pynvml = importlib.import_module("pynvml")
        pynvml.nvmlInit()
        index = device.index if device.index is not None else torch.cuda.current_device()
        handle = None
        with suppress(Exception):
            handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(index).uuid}")
        if handle is None:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    return None
