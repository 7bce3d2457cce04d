"""Rows of each sample taken and given back, whole rows at a time, without atomics."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["gather", "scatter"]

# Numbers of a row that a program moves, and rows.
WIDE, ROWS = 1024, 4


@triton.jit
def _gather(x, index, y, k, length, width, sample, row, ROWS: tl.constexpr, WIDE: tl.constexpr):
    b = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    place = tl.load(index + b * k + at, mask=at < k, other=0)
    there = (at < k) & (place >= 0) & (place < length)
    for start in range(0, width, WIDE):
        column = start + tl.arange(0, WIDE)
        inside = column[None, :] < width
        values = tl.load(x + b * sample + place[:, None] * row + column[None, :], mask=there[:, None] & inside, other=0)
        tl.store(y + (b * k + at[:, None]) * width + column[None, :], values, mask=(at < k)[:, None] & inside)


@triton.jit
def _invert(index, inverse, k, length, BLOCK: tl.constexpr):
    b = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    place = tl.load(index + b * k + at, mask=at < k, other=-1)
    tl.store(inverse + b * length + place, at, mask=(place >= 0) & (place < length))


@triton.jit
def _scatter(y, inverse, x, k, length, width, sample, row, ROWS: tl.constexpr, WIDE: tl.constexpr):
    b = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    place = tl.load(inverse + b * length + at, mask=at < length, other=-1)
    for start in range(0, width, WIDE):
        column = start + tl.arange(0, WIDE)
        inside = column[None, :] < width
        values = tl.load(
            y + b * sample + place[:, None].to(tl.int64) * row + column[None, :],
            mask=(place >= 0)[:, None] & inside, other=0,
        )  # fmt: skip
        tl.store(x + (b * length + at[:, None]) * width + column[None, :], values, mask=(at < length)[:, None] & inside)


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Return y[b, i] = x[b, index[b, i]]; places outside give 0.

    Args:
        x: `[B, L, C]`, C last in memory.
        index: int64 `[B, k]`.
    """
    x, index = _rows(x), index.contiguous()
    (batch, length, width), k = x.shape, index.shape[1]
    y = x.new_empty(batch, k, width)
    if y.numel():
        with torch.cuda.device_of(x):
            _gather[(triton.cdiv(k, ROWS), batch)](
                x, index, y, k, length, width, x.stride(0), x.stride(1), ROWS=ROWS, WIDE=_wide(width)
            )
    return y


def scatter(y: Tensor, index: Tensor, length: int) -> Tensor:
    """Return x[b, index[b, i]] = y[b, i], 0 elsewhere; the places of a sample are distinct.

    Every row of x is written once: a table says which row of y it is, if any.

    Args:
        y: `[B, k, C]`, C last in memory.
        index: int64 `[B, k]`.
        length: rows L of x.
    """
    y, index = _rows(y), index.contiguous()
    batch, k, width = y.shape
    x = y.new_empty(batch, length, width)
    inverse = torch.full((batch, length), -1, dtype=torch.int32, device=y.device)
    if x.numel() and k:
        with torch.cuda.device_of(y):
            _invert[(triton.cdiv(k, 256), batch)](index, inverse, k, length, BLOCK=256)
            _scatter[(triton.cdiv(length, ROWS), batch)](
                y, inverse, x, k, length, width, y.stride(0), y.stride(1), ROWS=ROWS, WIDE=_wide(width)
            )
        return x
    return x.zero_()


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(2) == 1 else x.contiguous()


def _wide(width: int) -> int:
    return min(WIDE, 1 << (width - 1).bit_length())
