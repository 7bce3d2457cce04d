"""The convolution of bytes as a Triton kernel: an implicit product of matrices on tensor cores, codes out at once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["ROUNDING", "convolve"]

ROUNDING = 12582912.0
"""1.5·2²³: a float32 below 2²² plus this has no room for a fraction, and rounds halves to even."""
_BELOW_ONE_BLOCK = 64


@triton.jit
def _convolve(
    x, w, bias, multiplier, out, rows_total,
    CO: tl.constexpr, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr, HO: tl.constexpr, WO: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr,
    DH: tl.constexpr, DW: tl.constexpr, ZERO: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr,
    ROUND: tl.constexpr, REAL: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    pid = tl.program_id(0)
    across: tl.constexpr = (CO + BN - 1) // BN
    rows = (pid // across).to(tl.int64) * BM + tl.arange(0, BM)
    cols = (pid % across) * BN + tl.arange(0, BN)
    wo = (rows % WO).to(tl.int32)
    ho = ((rows // WO) % HO).to(tl.int32)
    first = rows // (WO * HO) * (H * W * C)
    inside = rows < rows_total
    known = cols < CO
    blocks: tl.constexpr = (C + BK - 1) // BK
    acc = tl.zeros((BM, BN), dtype=tl.int32)
    k = tl.arange(0, BK)
    for step in range(KH * KW * blocks):
        place = step // blocks
        channel = (step % blocks) * BK + k
        hi = ho * SH - PH + (place // KW) * DH
        wi = wo * SW - PW + (place % KW) * DW
        seen = inside & (hi >= 0) & (hi < H) & (wi >= 0) & (wi < W)
        a_at = x + (first + (hi * W + wi) * C)[:, None] + channel[None, :]
        b_at = w + ((cols * (KH * KW) + place) * C)[None, :] + channel[:, None]
        if C % BK == 0:
            a = tl.load(a_at, mask=seen[:, None], other=0)
            b = tl.load(b_at, mask=known[None, :], other=0)
        else:
            a = tl.load(a_at, mask=seen[:, None] & (channel < C)[None, :], other=0)
            b = tl.load(b_at, mask=known[None, :] & (channel < C)[:, None], other=0)
        acc = tl.dot(a, b, acc, out_dtype=tl.int32)
    shift = tl.load(bias + cols, mask=known, other=0.0)
    factor = tl.load(multiplier + cols, mask=known, other=0.0)
    value = (acc.to(tl.float32) + shift[None, :]) * factor[None, :]
    at = out + rows[:, None] * CO + cols[None, :]
    wanted = inside[:, None] & known[None, :]
    if REAL:
        tl.store(at, value, mask=wanted)
    else:
        # One beyond the ends is enough to stay beyond them, and near enough to be rounded.
        value = tl.minimum(tl.maximum(value, LOW - ZERO - 1.0), HIGH - ZERO + 1.0)
        value = (value + ROUND) - ROUND
        code = tl.minimum(tl.maximum(value + ZERO, LOW), HIGH)
        tl.store(at, code.to(tl.uint8), mask=wanted)


def convolve(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    multiplier: Tensor,
    out: Tensor,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bounds: tuple[int, int, int],
    tile: tuple[int, int, int] | None = None,
    warps: int = 8,
    stages: int = 4,
) -> None:
    """Fill `out`; see `sparseflow.ops.conv2d_codes.conv2d_codes`.

    Args:
        codes: uint8 `[N, C, H, W]`, channels last, at most 127: the units take bytes with signs.
        weight: int8 `[C_out, C, KH, KW]`, channels last.
        bias: float32 `[C_out]`.
        multiplier: float32 `[C_out]`.
        out: `[N, C_out, H', W']`, channels last; uint8, or float32 for real numbers.
        stride: of the window.
        padding: zeros around.
        dilation: of the window.
        bounds: smallest code, largest code, zero point.
        tile: rows, columns and depth of a program.
        warps: of a program.
        stages: loads in flight.
    """
    n, c, h, w = codes.shape
    co, _, kh, kw = weight.shape
    _, _, ho, wo = out.shape
    rows = n * ho * wo
    if rows == 0 or co == 0:
        return
    low, high, zero = bounds
    bm, bn, bk = tile or (128, 128 if co > _BELOW_ONE_BLOCK else 64, 64 if c > 32 else 32)
    grid = (triton.cdiv(rows, bm) * triton.cdiv(co, bn),)
    with torch.cuda.device_of(out):
        _convolve[grid](
            codes.view(torch.int8), weight, bias, multiplier, out, rows,
            CO=co, H=h, W=w, C=c, HO=ho, WO=wo, KH=kh, KW=kw, SH=stride[0], SW=stride[1], PH=padding[0],
            PW=padding[1], DH=dilation[0], DW=dilation[1], ZERO=zero, LOW=float(low), HIGH=float(high), ROUND=ROUNDING,
            REAL=out.dtype == torch.float32, BM=bm, BN=bn, BK=bk, num_warps=warps, num_stages=stages,
        )  # fmt: skip
