"""The compiled kernels, if this installation has them."""

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

__all__ = ["ABSENT", "dense_layout", "empty", "native", "pointer", "run", "watched"]

native: Any
ABSENT: str | None


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        # torch comes first, above: both must share its OpenMP runtime.
        from sparseflow.ops import _native
    except ImportError as e:
        return None, f"the compiled kernels are missing ({e}); reinstall sparseflow with a C++17 compiler"
    return _native, None


native, ABSENT = _load()
MAPPED = (32 << 20) // 4
"""Floats from which on the C library maps memory afresh (its DEFAULT_MMAP_THRESHOLD_MAX)."""


def pointer(x: Tensor | None) -> int:
    """Return the address of the first element, or 0 for None."""
    return 0 if x is None else x.data_ptr()


def channels_last(x: Tensor) -> bool:
    """Tell whether channels lie last in memory; False where both layouts hold.

    >>> channels_last(torch.ones(1, 2, 3, 3).to(memory_format=torch.channels_last))
    True
    """
    return x.ndim == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)


def dense_layout(x: Tensor) -> Tensor:
    """Return `x`, or a contiguous copy if it is neither contiguous nor channels last."""
    return x if channels_last(x) else x.contiguous()


def like(x: Tensor, other: Tensor) -> Tensor:
    """Return `x` in the memory layout of `other`, which is dense."""
    return x.contiguous(memory_format=torch.channels_last if channels_last(other) else torch.contiguous_format)


def empty(like: Tensor, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
    """Return a new tensor `[*shape]`, uninitialised, from reused memory where it is large.

    The C library maps large pieces afresh at every call, and their page faults then take longer than the
    kernel that fills them. The storage of a reused piece cannot be resized.

    Args:
        like: gives the device.
        shape: sizes.
        dtype: element type; that of `like` if None.
    """
    count, dtype = math.prod(shape), dtype or like.dtype
    if (
        native is None
        or count < MAPPED
        or type(like) is not Tensor
        or dtype != torch.float32
        or like.device.type != "cpu"
        or torch.compiler.is_compiling()
    ):
        return like.new_empty(shape, dtype=dtype)
    return native.arena_empty(count).view(shape)  # type: ignore[no-any-return]


def watched(first: Tensor) -> bool:
    """Tell whether anybody but the caller sees an operation on `first`.

    That is with gradients, a compilation or trace, a mode, a profiler or a tensor subclass.
    """
    return (
        torch.is_grad_enabled()
        or torch.compiler.is_compiling()
        or type(first) is not Tensor
        or torch._C._get_tracing_state() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or torch._C._len_torch_function_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or torch.autograd.profiler._is_profiler_enabled
    )


def run(op: Any, first: Tensor, *rest: Any) -> Any:
    """Run a registered operator, by its body alone where nobody watches or differentiates.

    torch's dispatcher takes 20 to 30 microseconds for an operator written in
    Python, as long as a small layer itself. It is passed by in plain inference only; see `watched`.
    """
    return op(first, *rest) if watched(first) else op._init_fn(first, *rest)
