"""Rounding to codes and the segments of a tri-segment as one Triton kernel each way."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops._library import dense_layout, like

__all__ = ["backward", "forward", "slopes"]

BLOCK = 2048
# Blocks of a program of the gradient, whose sums are added in the end.
BLOCKS = 8


@triton.jit
def _codes(whole):
    t1 = tl.load(whole).to(tl.float32)
    v1 = tl.load(whole + 1).to(tl.float32)
    t2 = tl.load(whole + 2).to(tl.float32)
    v2 = tl.load(whole + 3).to(tl.float32)
    return t1, v1, t2, v2, tl.load(whole + 4).to(tl.float32)


@triton.jit
def _forward(x, whole, scale, inverse, out, kept, size, qmax, MODE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    t1, v1, t2, v2, top = _codes(whole)
    r = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) * tl.load(inverse)
    r = tl.minimum(tl.maximum(r, -2.0), 254.0)
    # Whole numbers lie one apart there, so that the addition rounds, halves to even.
    r = (r + 12582912.0) - 12582912.0
    q = tl.minimum(tl.maximum(r, 0.0), qmax)
    if MODE == "clip":
        high = v2 + 0.0 * q
    elif MODE == "saturate":
        high = tl.where(q > top, top, v2)
    else:
        high = tl.where(q > top, q, v2)
    f = tl.where(q > t2, high, tl.where(q > t1, v1, 0.0))
    tl.store(out + at, (f * tl.load(scale)).to(out.dtype.element_ty), mask=inside)
    mark = tl.where(r < 0, 254.0, tl.where(r > qmax, 255.0, q))
    tl.store(kept + at, mark.to(tl.int32).to(tl.uint8), mask=inside)


@triton.jit
def _backward(
    g, kept, whole, scale, out, sums, size, qmax, window,
    MODE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    t1, _, t2, _, top = _codes(whole)
    low1 = tl.maximum(t1 - window, 0.0)
    high1 = tl.minimum(t1 + window, top)
    low2 = tl.maximum(t2 - window, 0.0)
    high2 = tl.minimum(t2 + window, top)
    near1 = tl.zeros([BLOCK], tl.float32)
    first = tl.zeros([BLOCK], tl.float32)
    near2 = tl.zeros([BLOCK], tl.float32)
    second = tl.zeros([BLOCK], tl.float32)
    for k in range(BLOCKS):
        at = (program * BLOCKS + k) * BLOCK + tl.arange(0, BLOCK)
        inside = at < size
        mark = tl.load(kept + at, mask=inside, other=254).to(tl.float32)
        y = tl.load(g + at, mask=inside, other=0.0).to(tl.float32)
        q = tl.where(mark == 254.0, 0.0, tl.minimum(mark, qmax))
        through = mark < 254.0
        beyond = q > t2
        if MODE != "pass":
            through = through & (q <= top)
        if MODE != "clip":
            beyond = beyond & (q <= top)
        near1 += tl.where((q > low1) & (q <= high1), y, 0.0)
        first += tl.where((q > t1) & (q <= t2), y, 0.0)
        near2 += tl.where((q > low2) & (q <= high2), y, 0.0)
        second += tl.where(beyond, y, 0.0)
        tl.store(out + at, tl.where(through, y, 0.0).to(out.dtype.element_ty), mask=inside)
    s = tl.load(scale)
    tl.store(sums + program * 4, tl.sum(near1) * s)
    tl.store(sums + program * 4 + 1, tl.sum(first) * s)
    tl.store(sums + program * 4 + 2, tl.sum(near2) * s)
    tl.store(sums + program * 4 + 3, tl.sum(second) * s)


@triton.jit
def _slopes(sums, whole, out, programs, window, BLOCK: tl.constexpr):
    t1, v1, t2, v2, top = _codes(whole)
    near1 = tl.zeros([BLOCK], tl.float32)
    first = tl.zeros([BLOCK], tl.float32)
    near2 = tl.zeros([BLOCK], tl.float32)
    second = tl.zeros([BLOCK], tl.float32)
    for start in range(0, programs, BLOCK):
        at = start + tl.arange(0, BLOCK)
        inside = at < programs
        near1 += tl.load(sums + at * 4, mask=inside, other=0.0)
        first += tl.load(sums + at * 4 + 1, mask=inside, other=0.0)
        near2 += tl.load(sums + at * 4 + 2, mask=inside, other=0.0)
        second += tl.load(sums + at * 4 + 3, mask=inside, other=0.0)
    width1 = tl.minimum(t1 + window, top) - tl.maximum(t1 - window, 0.0)
    width2 = tl.minimum(t2 + window, top) - tl.maximum(t2 - window, 0.0)
    tl.store(out, -v1 * tl.sum(near1) / width1)
    tl.store(out + 1, tl.sum(first))
    tl.store(out + 2, -(v2 - v1) * tl.sum(near2) / width2)
    tl.store(out + 3, tl.sum(second))


def forward(x: Tensor, whole: Tensor, scale: Tensor, mode: str, qmax: int) -> tuple[Tensor, Tensor]:
    """Return values and marks, as `reference.forward` does.

    Args:
        x: any shape; float32, float16 or bfloat16.
        whole: int64 `[5]`.
        scale: float32 `[]`.
        mode: what codes beyond tmax become.
        qmax: greatest code, at most 253.
    """
    x = dense_layout(x)
    out, kept = torch.empty_like(x), torch.empty_like(x, dtype=torch.uint8)
    if x.numel():
        with torch.cuda.device_of(x):
            grid = (triton.cdiv(x.numel(), BLOCK),)
            _forward[grid](
                x, whole, scale, scale.reciprocal(), out, kept, x.numel(), float(qmax), MODE=mode, BLOCK=BLOCK
            )
    return out, kept


def backward(
    g: Tensor, kept: Tensor, whole: Tensor, scale: Tensor, mode: str, qmax: int, window: int
) -> tuple[Tensor, Tensor]:
    """Return the gradient of the input and four sums, as `reference.backward` does, but one row of sums a program.

    Args:
        g: gradient of the values.
        kept: marks of `forward`.
        whole: int64 `[5]`.
        scale: float32 `[]`.
        mode: what codes beyond tmax become.
        qmax: greatest code.
        window: half width in codes of the sums around thresholds.
    """
    g = like(g, kept)
    out = torch.empty_like(g)
    programs = triton.cdiv(g.numel(), BLOCK * BLOCKS)
    sums = torch.empty(programs, 4, device=g.device)
    if programs:
        with torch.cuda.device_of(g):
            _backward[(programs,)](
                g, kept, whole, scale, out, sums, g.numel(), float(qmax), float(window),
                MODE=mode, BLOCK=BLOCK, BLOCKS=BLOCKS,
            )  # fmt: skip
    return out, sums


def slopes(sums: Tensor, whole: Tensor, window: int) -> Tensor:
    """Return the gradient of t1, v1, t2 and v2, as `reference.slopes` does.

    Args:
        sums: `[P, 4]` of `backward`, added in a fixed order.
        whole: int64 `[5]`.
        window: half width in codes of the sums around thresholds.
    """
    if not len(sums):
        return torch.zeros(4, device=sums.device)
    out = torch.empty(4, device=sums.device)
    with torch.cuda.device_of(sums):
        _slopes[(1,)](sums, whole, out, len(sums), float(window), BLOCK=1024)
    return out
