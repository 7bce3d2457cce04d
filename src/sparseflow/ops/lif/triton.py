"""Triton kernels of the neuron and of packed spikes, and the two steps that other kernels share."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops._library import channels_last, like
from sparseflow.ops.lif.reference import LIFParams

__all__ = [
    "add_lif_pack",
    "constants",
    "fire",
    "integrate",
    "lif",
    "lif_pack",
    "or_pool2d",
    "pack_spikes",
    "unpack_spikes",
]

ROWS = 64
FEWEST_ROWS = 8
PROGRAMS = 264
"""Programs that a kernel is cut into where it is small: two for each of 132 multiprocessors."""
PIXELS = 32


@triton.jit
def fire(h, threshold, rest, SOFT: tl.constexpr):
    """Return the potential after the spikes, and the spikes as booleans."""
    s = h >= threshold
    if SOFT:
        v = tl.where(s, h - threshold, h)
    else:
        v = tl.where(s, rest, h)
    return v, s


@triton.jit
def integrate(
    v, x, tau, threshold, rest, LEAK: tl.constexpr, DECAY: tl.constexpr, INVERSE: tl.constexpr, SOFT: tl.constexpr
):
    """Return the potential after one step and the spikes, rounded as the reference rounds."""
    if LEAK:
        if DECAY:
            d = x - (v - rest)
        else:
            d = v - rest
        if INVERSE:
            d = d * tau
        else:
            d = tl.math.div_rn(d, tau + tl.zeros_like(d))
        if DECAY:
            h = v + d
        else:
            h = v - d + x
    else:
        h = v + x
    return fire(h, threshold, rest, SOFT)


@triton.jit
def _word(bits, b, AXIS: tl.constexpr):
    return tl.sum(bits.to(tl.int32) << b, axis=AXIS)


@triton.jit
def _lif(x, v0, spikes, v, n, steps, step, tau, threshold, rest, LEAK: tl.constexpr, DECAY: tl.constexpr,
         INVERSE: tl.constexpr, SOFT: tl.constexpr, STATE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    ok = at < n
    if STATE:
        u = tl.load(v0 + at, mask=ok, other=0.0).to(tl.float32)
    else:
        u = tl.zeros((BLOCK,), tl.float32) + rest
    current = tl.load(x + at, mask=ok, other=0.0).to(tl.float32)
    for t in range(steps):
        x += step
        following = tl.load(x + at, mask=ok & (t + 1 < steps), other=0.0).to(tl.float32)
        u, s = integrate(u, current, tau, threshold, rest, LEAK, DECAY, INVERSE, SOFT)
        tl.store(spikes + at, s.to(spikes.dtype.element_ty), mask=ok)
        spikes += n
        current = following
    tl.store(v + at, u.to(v.dtype.element_ty), mask=ok)


@triton.jit
def _lif_pack(x, v0, words, v, rows, channels, pixels, steps, step, tau, threshold, rest, LEAK: tl.constexpr,
              DECAY: tl.constexpr, INVERSE: tl.constexpr, SOFT: tl.constexpr, STATE: tl.constexpr, LAST: tl.constexpr,
              W: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    AXIS: tl.constexpr = 1 if LAST else 0
    b, first, at, ok, to, good = _tile(rows, channels, pixels, LAST, W, BLOCK)
    x += first
    if STATE:
        u = tl.load(v0 + first + at, mask=ok, other=0.0).to(tl.float32)
    else:
        u = tl.zeros(at.shape, tl.float32) + rest
    current = tl.load(x + at, mask=ok, other=0.0).to(tl.float32)
    for t in range(steps):
        x += step
        following = tl.load(x + at, mask=ok & (t + 1 < steps), other=0.0).to(tl.float32)
        u, s = integrate(u, current, tau, threshold, rest, LEAK, DECAY, INVERSE, SOFT)
        tl.store(words + to, _word(s & ok, b, AXIS), mask=good)
        words += rows
        current = following
    tl.store(v + first + at, u.to(v.dtype.element_ty), mask=ok)


@triton.jit
def _add_lif_pack(x, y, words, z, rows, channels, pixels, steps, step, tau, threshold, rest, LEAK: tl.constexpr,
                  DECAY: tl.constexpr, INVERSE: tl.constexpr, SOFT: tl.constexpr, LAST: tl.constexpr,
                  W: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    AXIS: tl.constexpr = 1 if LAST else 0
    b, first, at, ok, to, good = _tile(rows, channels, pixels, LAST, W, BLOCK)
    at += first
    u = tl.zeros(at.shape, tl.float32) + rest
    a = tl.load(x + at, mask=ok, other=0.0)
    c = tl.load(y + at, mask=ok, other=0.0)
    for t in range(steps):
        # The neurons read the sum as it is stored.
        total = (a.to(tl.float32) + c.to(tl.float32)).to(z.dtype.element_ty)
        tl.store(z + at, total, mask=ok)
        at += step
        a = tl.load(x + at, mask=ok & (t + 1 < steps), other=0.0)
        c = tl.load(y + at, mask=ok & (t + 1 < steps), other=0.0)
        u, s = integrate(u, total.to(tl.float32), tau, threshold, rest, LEAK, DECAY, INVERSE, SOFT)
        tl.store(words + to, _word(s & ok, b, AXIS), mask=good)
        words += rows


@triton.jit
def _tile(rows, channels, pixels, LAST: tl.constexpr, W: tl.constexpr, BLOCK: tl.constexpr):
    """Return bits, the first element, element offsets from it, their mask, word offsets and their mask.

    Channels last: BLOCK words by 32 channels. Channels first: 32 channels by
    BLOCK pixels of one map, so that neighbours in memory are neighbours in the tile.
    """
    i = tl.arange(0, BLOCK)
    bits = tl.arange(0, 32)
    if LAST:
        start = tl.program_id(0).to(tl.int64) * BLOCK
        r = (start % W).to(tl.int32) + i
        b = bits[None, :]
        c = (r % W)[:, None] * 32 + b
        at = (r // W)[:, None] * channels + c
        first = start // W * channels
        to = start + i
        good = to < rows
        ok = good[:, None] & (c < channels)
    else:
        blocks = tl.cdiv(pixels, BLOCK)
        pid = tl.program_id(0)
        plane = pid // blocks
        m = (plane // W).to(tl.int64)
        w = plane % W
        r = (pid % blocks) * BLOCK + i
        b = bits[:, None]
        c = w * 32 + b
        at = c * pixels + r[None, :]
        first = m * channels * pixels
        to = (m * pixels + r) * W + w
        good = r < pixels
        ok = good[None, :] & (c < channels)
    return b, first, at, ok, to, good


@triton.jit
def _pack(x, words, rows, channels, pixels, LAST: tl.constexpr, W: tl.constexpr, PLANES: tl.constexpr,
          BLOCK: tl.constexpr):  # fmt: skip
    AXIS: tl.constexpr = 1 if LAST else 0
    b, first, at, ok, to, good = _tile(rows, channels, pixels, LAST, W, BLOCK)
    value = tl.load(x + first + at, mask=ok, other=0.0)
    if PLANES == 1:
        tl.store(words + to, _word(value != 0, b, AXIS), mask=good)
    else:
        count = value.to(tl.int32)
        base = words + (to // W) * (W * PLANES) + to % W
        for p in tl.static_range(PLANES):
            tl.store(base + p * W, _word((count >> p) & 1, b, AXIS), mask=good)


@triton.jit
def _unpack(words, x, rows, channels, W: tl.constexpr, PLANES: tl.constexpr, BLOCK: tl.constexpr):
    r = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    good = r < rows
    b = tl.arange(0, 32)[None, :]
    c = (r % W).to(tl.int32)[:, None] * 32 + b
    base = words + (r // W) * (W * PLANES) + r % W
    value = (tl.load(base, mask=good, other=0)[:, None] >> b) & 1
    for p in tl.static_range(1, PLANES):
        value += ((tl.load(base + p * W, mask=good, other=0)[:, None] >> b) & 1) << p
    at = (r // W)[:, None] * channels + c
    tl.store(x + at, value.to(x.dtype.element_ty), mask=good[:, None] & (c < channels))


@triton.jit
def _or_pool(words, out, n, h, w, ho, wo, sh, sw, ph, pw, W: tl.constexpr, KH: tl.constexpr, KW: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    good = at < n
    pixel = at // W
    y = ((pixel // wo) % ho).to(tl.int32) * sh - ph
    x = (pixel % wo).to(tl.int32) * sw - pw
    base = words + (pixel // wo // ho) * (h * w * W) + at % W
    found = tl.zeros((BLOCK,), tl.int32)
    for i in tl.static_range(KH):
        for j in tl.static_range(KW):
            ok = good & (y + i >= 0) & (y + i < h) & (x + j >= 0) & (x + j < w)
            found |= tl.load(base + ((y + i) * w + x + j) * W, mask=ok, other=0)
    tl.store(out + at, found, mask=good)


def constants(params: LIFParams) -> dict[str, float | bool]:
    """Return the constants of the neurons as the kernels take them."""
    # Dividing by a power of two and multiplying by its inverse round alike.
    inverse = math.frexp(params.tau)[0] == 0.5
    return {
        "tau": 1.0 / params.tau if inverse else params.tau,
        "threshold": params.v_threshold,
        "rest": params.v_rest,
        "LEAK": params.kind == "lif",
        "DECAY": params.decay_input,
        "INVERSE": inverse,
        "SOFT": params.v_reset is None,
    }


def lif(x: Tensor, v0: Tensor | None, params: LIFParams, steps: int, repeat: bool, spikes: Tensor, v: Tensor) -> None:
    """Fill `spikes` and `v`, both in the layout of `x`; arguments as in `sparseflow.ops.lif.lif`.

    Computes in float32 whatever the type of `x`.
    """
    n = v.numel()
    if n == 0:
        return
    state = x if v0 is None else like(v0, x)
    block = 1024
    with torch.cuda.device_of(x):
        _lif[(triton.cdiv(n, block),)](
            x, state, spikes, v, n, steps, 0 if repeat else n, **constants(params), STATE=v0 is not None, BLOCK=block
        )


def lif_pack(
    x: Tensor, v0: Tensor | None, params: LIFParams, steps: int, repeat: bool, words: Tensor, v: Tensor
) -> None:
    """Fill `words`, and `v` in the layout of `x`; arguments as in `sparseflow.ops.lif.lif_pack`.

    Reads a repeated input from the cache after the first step, and never writes a float spike.
    """
    if v.numel() == 0:
        return
    rows, c, pixels, last, grid, block, warps = _rows(v, words.shape[-1])
    state = x if v0 is None else like(v0, x)
    with torch.cuda.device_of(x):
        _lif_pack[grid](
            x, state, words, v, rows, c, pixels, steps, 0 if repeat else v.numel(), **constants(params),
            STATE=v0 is not None, LAST=last, W=words.shape[-1], BLOCK=block, num_warps=warps,
        )  # fmt: skip


def add_lif_pack(x: Tensor, y: Tensor, params: LIFParams, steps: int, words: Tensor, z: Tensor) -> None:
    """Fill `words`, and `z` in the layout of `x`; arguments as in `sparseflow.ops.lif.add_lif_pack`."""
    if x.numel() == 0:
        return
    one = x[: x.shape[0] // steps]
    rows, c, pixels, last, grid, block, warps = _rows(one, words.shape[-1])
    with torch.cuda.device_of(x):
        _add_lif_pack[grid](
            x, y, words, z, rows, c, pixels, steps, one.numel(), **constants(params),
            LAST=last, W=words.shape[-1], BLOCK=block, num_warps=warps,
        )  # fmt: skip


def _rows(x: Tensor, w: int) -> tuple[int, int, int, bool, tuple[int], int, int]:
    """Return words, channels, pixels, layout, grid, block and warps of a kernel that packs a dense `[M, C, H, W]`."""
    m, c, *size = x.shape
    pixels = math.prod(size)
    last = channels_last(x) or pixels == 1
    rows = m * pixels * w
    if last:
        block = ROWS
        while block > FEWEST_ROWS and triton.cdiv(rows, block) < PROGRAMS:
            block //= 2
        return rows, c, pixels, True, (triton.cdiv(rows, block),), block, max(1, block // 16)
    block = min(PIXELS, triton.next_power_of_2(pixels))
    # One warp holds all 32 channels of its pixels, so that most of a word is gathered within a thread.
    return rows, c, pixels, False, (m * w * triton.cdiv(pixels, block),), block, 1


def pack_spikes(x: Tensor, words: Tensor, planes: int = 1) -> None:
    """Fill `words`, `[M, H, W, planes*ceil(C/32)]`.

    No value is checked, which would make the host wait: with one plane whatever
    is not 0 counts as a spike, with more the low bits of the whole part are kept.
    """
    if x.numel() == 0:
        return
    w = words.shape[-1] // planes
    rows, c, pixels, last, grid, block, warps = _rows(x, w)
    with torch.cuda.device_of(x):
        _pack[grid](x, words, rows, c, pixels, LAST=last, W=w, PLANES=planes, BLOCK=block, num_warps=warps)


def unpack_spikes(words: Tensor, channels: int, x: Tensor, planes: int = 1) -> None:
    """Fill `x`, `[M, C, H, W]` with channels last in memory, any float type."""
    if x.numel() == 0:
        return
    w = words.shape[-1] // planes
    rows = x.numel() // channels * w
    with torch.cuda.device_of(x):
        _unpack[(triton.cdiv(rows, ROWS),)](words.contiguous(), x, rows, channels, W=w, PLANES=planes, BLOCK=ROWS)


def or_pool2d(words: Tensor, kernel: list[int], stride: list[int], padding: list[int], out: Tensor) -> None:
    """Fill `out`, `[M, Ho, Wo, words]`."""
    if out.numel() == 0:
        return
    _, h, w, n = words.shape
    block = 256
    with torch.cuda.device_of(words):
        _or_pool[(triton.cdiv(out.numel(), block),)](
            words.contiguous(), out, out.numel(), h, w, *out.shape[1:3], *stride, *padding,
            W=n, KH=kernel[0], KW=kernel[1], BLOCK=block,
        )  # fmt: skip
