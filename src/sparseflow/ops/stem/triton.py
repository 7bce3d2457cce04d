"""The first layer as one Triton kernel: implicit GEMM in two or three float16 products, then all spikes."""

import math
from itertools import accumulate
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops.lif.reference import LIFParams
from sparseflow.ops.lif.triton import constants, integrate
from sparseflow.ops.stem.reference import Window, intervals

__all__ = ["stem"]

PIXELS = 128
TERMS = 32
WARPS = 4
INFINITY = tl.constexpr(math.inf)


@triton.jit
def _between(current, LOW: tl.constexpr, HIGH: tl.constexpr):
    if HIGH == INFINITY:
        inside = current >= LOW
    else:
        inside = (current >= LOW) & (current < HIGH)
    return inside


@triton.jit
def _fires(current, T: tl.constexpr, ENDS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr):
    """Return which currents lie in an interval of step T."""
    START: tl.constexpr = ENDS[T]
    END: tl.constexpr = ENDS[T + 1]
    s = tl.zeros(current.shape, tl.int1)
    for i in tl.static_range(START, END):
        s |= _between(current, LOW[i], HIGH[i])
    return s


@triton.jit
def _stem(x, high, low, scale, bias, words, h, w, ho, wo, pixels, channels, sn, sc, sy, sx, tau, threshold, rest,
          STEPS: tl.constexpr, LEAK: tl.constexpr, DECAY: tl.constexpr, INVERSE: tl.constexpr, SOFT: tl.constexpr,
          CIN: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr, UP: tl.constexpr, RIGHT: tl.constexpr,
          TOP: tl.constexpr, LEFT: tl.constexpr, DY: tl.constexpr, DX: tl.constexpr, SPLIT: tl.constexpr,
          ENDS: tl.constexpr, LOW: tl.constexpr, HIGH: tl.constexpr, W: tl.constexpr, N: tl.constexpr,
          WIDE: tl.constexpr, K: tl.constexpr, PIXELS: tl.constexpr, TERMS: tl.constexpr):  # fmt: skip
    m = tl.program_id(0).to(WIDE) * PIXELS + tl.arange(0, PIXELS)
    good = m < pixels
    top = ((m // wo) % ho).to(tl.int32) * UP - TOP
    left = (m % wo).to(tl.int32) * RIGHT - LEFT
    first = (m // wo // ho) * sn + top * sy + left * sx
    # Outputs past the last one read nothing, as rows far outside do.
    top = tl.where(good, top, -(1 << 30))
    out = tl.program_id(1) * N + tl.arange(0, N)
    total = tl.zeros((PIXELS, N), tl.float32)
    for k0 in tl.static_range(0, K, TERMS):
        k = k0 + tl.arange(0, TERMS)
        c = k // (KH * KW)
        dy = (k % (KH * KW)) // KW * DY
        dx = k % KW * DX
        # Below zero is beyond the end, without a sign.
        row = (top[:, None] + dy[None, :]).to(tl.uint32)
        column = (left[:, None] + tl.where(c < CIN, dx, 1 << 30)[None, :]).to(tl.uint32)
        ok = (row < h.to(tl.uint32)) & (column < w.to(tl.uint32))
        a = tl.load(x + first[:, None] + (c * sc + dy * sy + dx * sx)[None, :], mask=ok, other=0.0).to(tl.float32)
        a_high = a.to(tl.float16)
        a_low = (a - a_high.to(tl.float32)).to(tl.float16)
        at = k[:, None] * (W * 32) + out[None, :]
        b_high = tl.load(high + at)
        total = tl.dot(a_low, b_high, total)
        if SPLIT:
            total = tl.dot(a_high, tl.load(low + at), total)
        total = tl.dot(a_high, b_high, total)
    current = total * tl.load(scale + out)[None, :] + tl.load(bias + out)[None, :]
    u = tl.zeros((PIXELS, N), tl.float32) + rest
    mask = tl.where(out < channels, 1 << (tl.arange(0, N) % 32), 0)[None, :]
    to = m[:, None] * W + (tl.program_id(1) * (N // 32) + tl.arange(0, N // 32))[None, :]
    for t in tl.static_range(STEPS):
        if ENDS is None:
            u, s = integrate(u, current, tau, threshold, rest, LEAK, DECAY, INVERSE, SOFT)
        else:
            s = _fires(current, t, ENDS, LOW, HIGH)
        packed = tl.sum(tl.reshape(tl.where(s, mask, 0), (PIXELS, N // 32, 32)), axis=2)
        tl.store(words + to, packed, mask=good[:, None])
        words += pixels * W


def stem(
    x: Tensor, weights: tuple[Tensor, Tensor | None, Tensor, Tensor], kernel: tuple[int, int], params: LIFParams,
    steps: int, window: Window, words: Tensor, *, pixels: int = PIXELS, terms: int = TERMS, warps: int = WARPS,
) -> None:  # fmt: skip
    """Fill `words`, `[T*N, Ho, Wo, W]`.

    Args:
        x: `[N, C, H, W]`, any strides.
        weights: high and low parts `[K, 32*W]`, scale and bias `[32*W]` of `pack_stem`.
        kernel: height and width of the window.
        params: constants of the neurons.
        steps: T.
        window: where the convolution reads.
        words: the output.
        pixels: outputs of a program.
        terms: terms of the sums a turn.
        warps: warps of a program.
    """
    if words.numel() == 0:
        return
    high, low, scale, bias = weights
    n, c, h, w = x.shape
    _, ho, wo, many = words.shape
    block = 64 if many % 2 == 0 else 32
    depth = triton.cdiv(c * kernel[0] * kernel[1], terms) * terms
    grid = (triton.cdiv(n * ho * wo, pixels), many * 32 // block)
    reach = max(words.numel(), sum((size - 1) * step for size, step in zip(x.shape, x.stride(), strict=True)) + 1)
    pieces = intervals(params, steps)
    ends, lows, highs = (None, None, None) if pieces is None else _flat(pieces)
    with torch.cuda.device_of(x):
        _stem[grid](
            x, high, high if low is None else low, scale, bias, words, h, w, ho, wo, n * ho * wo, many * 32,
            *x.stride(), **constants(params), STEPS=steps, CIN=c, KH=kernel[0], KW=kernel[1], UP=window.stride[0],
            RIGHT=window.stride[1], TOP=window.padding[0], LEFT=window.padding[1], DY=window.dilation[0],
            DX=window.dilation[1], SPLIT=low is not None, ENDS=ends, LOW=lows, HIGH=highs, W=many, N=block, K=depth,
            WIDE=tl.int64 if reach >= 1 << 31 else tl.int32, PIXELS=pixels, TERMS=terms, num_warps=warps,
        )  # fmt: skip


def _flat(pieces: Any) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...]]:
    """Return where the intervals of each step end in one list of all, and their low and high ends."""
    flat = [piece for step in pieces for piece in step]
    ends = (0, *accumulate(len(step) for step in pieces))
    return ends, tuple(low for low, _ in flat), tuple(high for _, high in flat)
