"""Where a recipe runs, and in which numbers it multiplies there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from sparseflow.errors import ConfigError

__all__ = ["DEVICES", "PRECISIONS", "device_of", "multiply_as"]

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = ("auto", "bfloat16", "tf32", "float32")


def device_of(name: str) -> torch.device:
    """Return the device of a name of `DEVICES`; "auto" is CUDA where there is one.

    Raises:
        ConfigError: an unknown name, or CUDA, which torch does not see.
    """
    if name not in DEVICES:
        raise ConfigError(f"device is {name!r}; expected one of {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; use 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextmanager
def multiply_as(precision: str, device: torch.device, *, auto: str = "tf32") -> Iterator[Callable[[], Any]]:
    """Multiply in a precision inside the block, which gets what calls of the network are wrapped in.

    Args:
        precision: one of `PRECISIONS`; "auto" is float32 on the CPU.
        device: where the network is.
        auto: what "auto" is on CUDA.

    Raises:
        ConfigError: unknown precision.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    chosen = precision if precision != "auto" else auto if device.type == "cuda" else "float32"
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = chosen != "float32"
    try:
        yield partial(torch.autocast, device.type, torch.bfloat16) if chosen == "bfloat16" else nullcontext
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
