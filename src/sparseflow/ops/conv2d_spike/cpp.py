"""Compiled event-driven kernel: walks the set bits and adds weight rows."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import ABSENT, channels_last, native, pointer
from sparseflow.ops.conv2d_spike.reference import Geometry
from sparseflow.ops.lif.cpp import config
from sparseflow.ops.lif.reference import LIFParams

__all__ = [
    "Shape",
    "call_lif",
    "call_words",
    "conv_lif",
    "conv_values",
    "conv_words",
    "geometry",
    "pack",
    "refusal",
]

# Input [m, c, h, w], weight [cout, c/groups, kh, kw], and how the window moves.
Shape = tuple[tuple[int, ...], tuple[int, ...], Geometry]


def refusal(*floats: Tensor | None, packed: Sequence[Tensor | None] = ()) -> str | None:
    """Return why the compiled kernels reject these operands, or None.

    Args:
        floats: operands that are read as float32.
        packed: words and packed weights, whose types are checked elsewhere.
    """
    if ABSENT is not None:
        return ABSENT
    for x in (*packed, *floats):
        if x is not None and x.device.type != "cpu":
            return f"compiled for CPUs only; an operand is on {x.device}"
    for x in floats:
        if x is not None and x.dtype != torch.float32:
            return f"computes in float32; an operand is {str(x.dtype).removeprefix('torch.')}"
    return None


@lru_cache(maxsize=1024)
def geometry(shape: Shape) -> Any:
    """Return the compiled form of the sizes of one convolution."""
    x, weight, moves = shape
    return native.ConvGeometry(*x, weight[0], weight[2], weight[3], *moves)


def pack(weight: Tensor, groups: int) -> Tensor:
    """Return the rows of a `[Cout, Cin/groups, kh, kw]` float32 weight.

    Raises:
        UnsupportedError: the weight is not finite, not float32 or not on the CPU.
    """
    reason = refusal(weight)
    if reason is None and not bool(torch.isfinite(weight).all()):
        reason = "the weight holds NaN or infinities, which a kernel that skips zero inputs would hide"
    if reason is not None:
        raise UnsupportedError(f"pack_weight: kernel 'event' cannot take this weight: {reason}")
    weight = weight.contiguous()
    rows = weight.new_empty(native.rows_size(*weight.shape, groups))
    native.pack_rows(weight.data_ptr(), rows.data_ptr(), *weight.shape, groups)
    return rows


def check_rows(rows: Tensor, shape: Shape) -> None:
    """Refuse rows of another geometry."""
    _, weight, moves = shape
    want = native.rows_size(*weight, moves.groups)
    if rows.shape != (want,) or rows.dtype != torch.float32:
        raise ConfigError(
            f"rows are {str(rows.dtype).removeprefix('torch.')} {tuple(rows.shape)}; a weight of shape {weight} "
            f"in {moves.groups} groups packs to float32 ({want},): pack it with pack_weight"
        )


def call_words(
    kernel: Any, words: Tensor, packed: Tensor, bias: Tensor | None, out: Tensor, shape: Shape, *more: Any
) -> None:
    """Call a compiled kernel that fills `out`, `[M, Cout, Ho, Wo]` in either layout, from packed spikes."""
    words, packed, bias = words.contiguous(), packed.contiguous(), None if bias is None else bias.contiguous()
    kernel(
        words.data_ptr(),
        packed.data_ptr(),
        pointer(bias),
        0,
        out.data_ptr(),
        geometry(shape),
        not out.is_contiguous(),
        torch.get_num_threads(),
        *more,
    )


def conv_words(words: Tensor, rows: Tensor, bias: Tensor | None, out: Tensor, shape: Shape, isa: str = "auto") -> None:
    """Fill `out`, `[M, Cout, Ho, Wo]` in either layout, from packed spikes."""
    check_rows(rows, shape)
    call_words(native.conv_words, words, rows, bias, out, shape, isa)


def conv_values(x: Tensor, rows: Tensor, bias: Tensor | None, out: Tensor, shape: Shape, isa: str = "auto") -> None:
    """Fill `out` from sparse floats `x`, `[M, C, H, W]`, contiguous or channels last."""
    check_rows(rows, shape)
    rows, bias = rows.contiguous(), None if bias is None else bias.contiguous()
    native.conv_values(
        x.data_ptr(),
        rows.data_ptr(),
        pointer(bias),
        0,
        out.data_ptr(),
        geometry(shape),
        channels_last(x) or x.shape[2] == x.shape[3] == 1,
        not out.is_contiguous(),
        torch.get_num_threads(),
        isa,
    )


def call_lif(
    kernel: Any,
    words: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    params: LIFParams,
    steps: int,
    v0: Tensor | None,
    residual: Tensor | None,
    words_out: Tensor,
    v: Tensor,
    shape: Shape,
    *more: Any,
) -> None:
    """Call a compiled kernel that fills `words_out` and `v`, the latter with channels last in memory."""
    words, packed, bias = words.contiguous(), packed.contiguous(), None if bias is None else bias.contiguous()
    v0 = None if v0 is None else v0.contiguous(memory_format=torch.channels_last)
    bits = residual is not None and residual.dtype == torch.int32
    if residual is not None:
        residual = residual.contiguous(memory_format=torch.contiguous_format if bits else torch.channels_last)
    kernel(
        words.data_ptr(),
        packed.data_ptr(),
        pointer(bias),
        0 if bits else pointer(residual),
        pointer(residual) if bits else 0,
        pointer(v0),
        words_out.data_ptr(),
        v.data_ptr(),
        geometry(shape),
        steps,
        config(params),
        torch.get_num_threads(),
        *more,
    )


def conv_lif(
    words: Tensor,
    rows: Tensor,
    bias: Tensor | None,
    params: LIFParams,
    steps: int,
    v0: Tensor | None,
    residual: Tensor | None,
    words_out: Tensor,
    v: Tensor,
    shape: Shape,
    isa: str = "auto",
) -> None:
    """Fill `words_out` and `v`, the latter with channels last in memory."""
    check_rows(rows, shape)
    call_lif(native.conv_lif, words, rows, bias, params, steps, v0, residual, words_out, v, shape, isa)
