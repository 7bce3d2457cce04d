"""The layer as one Triton kernel: an implicit matrix product on bits, neurons in registers, bits out.

A program owns a tile of output pixels and channels for all steps. It loads a
word of 32 channels once per pixel and tap, spreads its bits over a float16
operand, multiplies by weights shared by up to four steps, and keeps the
potential in registers from step to step.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.lif.triton import constants, fire, integrate
from sparseflow.ops.spike_layer._tensors import outputs
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["Config", "configs", "pack", "spike_layer"]

LARGEST_HALF = 65504.0


class Config(NamedTuple):
    """How one launch is cut.

    Args:
        pixels: output pixels of a program, best 32 for each warp.
        channels: output channels of a program: 32, 64 or 128.
        together: steps whose sums are held at once, at most 4.
        warps: warps of a program.
        stages: loads in flight.
        skip: look first whether any input of the tile spikes.
        dot: gather words by a matrix product instead of a sum.
    """

    pixels: int = 128
    channels: int = 32
    together: int = 4
    warps: int = 4
    stages: int = 3
    skip: bool = True
    dot: bool = False


@triton.jit
def _spread(words, ok, mask, CW: tl.constexpr, PLANES: tl.constexpr):
    """Return float16 counts `[BM, 32]`; selected, since converting from whole numbers takes four times as long."""
    value = tl.where((tl.load(words, mask=ok, other=0)[:, None] & mask) != 0, 1.0, 0.0).to(tl.float16)
    for p in tl.static_range(1, PLANES):
        more = (tl.load(words + p * CW, mask=ok, other=0)[:, None] & mask) != 0
        value += tl.where(more, 1 << p, 0).to(tl.float16)
    return value


@triton.jit
def _multiply(acc, words, ok, mask, high, low, CW: tl.constexpr, PLANES: tl.constexpr, EXACT: tl.constexpr):
    x = _spread(words, ok, mask, CW, PLANES)
    acc = tl.dot(x, high, acc)
    if EXACT:
        acc = tl.dot(x, low, acc)
    return acc


@triton.jit
def _alive(words, base, good, rows_in, cols_in, step, left, w, dh, dw, KW: tl.constexpr, TAPS: tl.constexpr,
           WORDS: tl.constexpr, TC: tl.constexpr):  # fmt: skip
    """Return 1 if any input of the tile spikes in these steps, else 0."""
    AT_ONCE: tl.constexpr = triton.next_power_of_2(WORDS) if WORDS < 32 else 32
    GROUPS: tl.constexpr = (WORDS + AT_ONCE - 1) // AT_ONCE
    c = tl.arange(0, AT_ONCE)[None, :]
    seen = base[:, None] * 0 + c * 0
    for k in range(TAPS * GROUPS):
        tap = k // GROUPS
        i = tap // KW
        j = tap % KW
        part = k % GROUPS * AT_ONCE + c
        ok = (good & (((rows_in >> i) & (cols_in >> j) & 1) != 0))[:, None] & (part < WORDS)
        at = words + (base + (i * dh * w + j * dw) * WORDS)[:, None] + part
        for t in tl.static_range(TC):
            seen |= tl.load(at + t * step, mask=ok & (t < left), other=0)
    return tl.max(tl.max((seen != 0).to(tl.int32), axis=1), axis=0)


@triton.jit
def _accumulate(a0, a1, a2, a3, words, mask, step, left, weight, lower, stride, n, y, x, good, cols, h, w, sh, sw, ph,
                pw, dh, dw, KH: tl.constexpr, KW: tl.constexpr, CW: tl.constexpr, PLANES: tl.constexpr,
                EXACT: tl.constexpr, SKIP: tl.constexpr, RAGGED: tl.constexpr, TC: tl.constexpr):  # fmt: skip
    """Add the convolution of one source, for TC steps, to the sums."""
    WORDS: tl.constexpr = CW * PLANES
    y0 = y * sh - ph
    x0 = x * sw - pw
    rows_in = tl.zeros_like(y0)
    for row in tl.static_range(KH):
        rows_in |= ((y0 + row * dh >= 0) & (y0 + row * dh < h)).to(tl.int32) << row
    cols_in = tl.zeros_like(x0)
    for col in tl.static_range(KW):
        cols_in |= ((x0 + col * dw >= 0) & (x0 + col * dw < w)).to(tl.int32) << col
    base = ((n * h + y0) * w + x0) * WORDS
    total = KH * KW * CW
    if SKIP:
        total = total * _alive(words, base, good, rows_in, cols_in, step, left, w, dh, dw, KW, KH * KW, WORDS, TC)
    b = tl.arange(0, 32)
    for k in range(total):
        tap = k // CW
        i = tap // KW
        j = tap % KW
        ok = good & (((rows_in >> i) & (cols_in >> j) & 1) != 0)
        at = words + base + (i * dh * w + j * dw) * WORDS + k % CW
        of = weight + (k * 32 + b)[:, None] * stride + cols[None, :]
        high = tl.load(of)
        low = high
        if EXACT:
            low = tl.load(of + lower)
        a0 = _multiply(a0, at, ok, mask, high, low, CW, PLANES, EXACT)
        if TC > 1:
            a1 = _multiply(a1, at + step, ok & (left > 1) if RAGGED else ok, mask, high, low, CW, PLANES, EXACT)
        if TC > 2:
            a2 = _multiply(a2, at + 2 * step, ok & (left > 2) if RAGGED else ok, mask, high, low, CW, PLANES, EXACT)
        if TC > 3:
            a3 = _multiply(a3, at + 3 * step, ok & (left > 3) if RAGGED else ok, mask, high, low, CW, PLANES, EXACT)
    return a0, a1, a2, a3


@triton.jit
def _gather(s, BM: tl.constexpr, BN: tl.constexpr, DOT: tl.constexpr):
    """Return words `[BM, BN/32]` of booleans `[BM, BN]`, or half words `[BM, 16]` by a matrix product."""
    if DOT:
        k = tl.arange(0, BN)[:, None]
        place = tl.where(k // 16 == tl.arange(0, 16)[None, :], 1 << (k % 16), 0).to(tl.float16)
        found = tl.dot(tl.where(s, 1.0, 0.0).to(tl.float16), place).to(tl.int32)
    else:
        bit = (1 << (tl.arange(0, BN) % 32))[None, :]
        found = tl.sum(tl.reshape(tl.where(s, bit, 0), (BM, BN // 32, 32)), axis=2)
    return found


@triton.jit
def _emit(acc, v, left, m, good, cols, ok_cols, first, cout, out, identity, add, keep, gain, tau, threshold, rest,
          NEURON: tl.constexpr, FOLD: tl.constexpr, LEAK: tl.constexpr, DECAY: tl.constexpr, INVERSE: tl.constexpr,
          SOFT: tl.constexpr, IDENTITY: tl.constexpr, ADD: tl.constexpr, PLANES: tl.constexpr, WOUT: tl.constexpr,
          RAGGED: tl.constexpr, DOT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    """Finish one step: identity, neuron, sum of counts, words or floats out. Returns the potential."""
    if IDENTITY > 0:
        bit = (1 << tl.arange(0, 32))[None, None, :]
        j = first + tl.arange(0, BN // 32)
        at = identity + m[:, None] * (IDENTITY * WOUT) + j[None, :]
        ok = good[:, None] & (j < WOUT)[None, :] & (left > 0)
        for p in tl.static_range(IDENTITY):
            there = (tl.load(at + p * WOUT, mask=ok, other=0)[:, :, None] & bit) != 0
            acc += tl.reshape(tl.where(there, gain * (1 << p), 0.0), (BM, BN))
    if NEURON:
        if FOLD:
            u, s = fire(v * keep + acc, threshold, rest, SOFT)
        else:
            u, s = integrate(v, acc, tau, threshold, rest, LEAK, DECAY, INVERSE, SOFT)
        v = tl.where(left > 0, u, v) if RAGGED else u
        found = _gather(s & ok_cols[None, :], BM, BN, DOT)
        PARTS: tl.constexpr = 2 if DOT else 1
        LANES: tl.constexpr = 16 if DOT else BN // 32
        WIDTH: tl.constexpr = PARTS * WOUT
        lane = tl.arange(0, LANES)
        j = first * PARTS + lane
        ok = good[:, None] & ((j < WIDTH) & (lane < PARTS * (BN // 32)))[None, :] & (left > 0)
        at = out + m[:, None] * (PLANES * WIDTH) + j[None, :]
        if ADD == 0:
            tl.store(at, found.to(out.dtype.element_ty), mask=ok)
        else:
            term = add + m[:, None] * (ADD * WIDTH) + j[None, :]
            carry = found
            for p in tl.static_range(PLANES):
                if p < ADD:
                    other = tl.load(term + p * WIDTH, mask=ok, other=0).to(tl.int32)
                    tl.store(at + p * WIDTH, (other ^ carry).to(out.dtype.element_ty), mask=ok)
                    carry = other & carry
                else:
                    tl.store(at + p * WIDTH, carry.to(out.dtype.element_ty), mask=ok)
                    carry = carry & 0
    else:
        ok = good[:, None] & ok_cols[None, :]
        tl.store(out + m.to(tl.int64)[:, None] * cout + cols[None, :], acc.to(out.dtype.element_ty), mask=ok)
    return v


@triton.jit
def _layer(words0, weight0, words1, weight1, bits, bias, identity, add, v0, out, v1, rows, cout, stride, ho, wo, step0,
           h0, w0, sh0, sw0, ph0, pw0, dh0, dw0, step1, h1, w1, sh1, sw1, ph1, pw1, dh1, dw1, lower0, lower1, keep,
           gain, tau, threshold, rest, LEAK: tl.constexpr, DECAY: tl.constexpr, INVERSE: tl.constexpr,
           SOFT: tl.constexpr, NEURON: tl.constexpr, EXACT: tl.constexpr, STEPS: tl.constexpr, KH0: tl.constexpr,
           KW0: tl.constexpr, CW0: tl.constexpr, P0: tl.constexpr, KH1: tl.constexpr, KW1: tl.constexpr,
           CW1: tl.constexpr, P1: tl.constexpr, IDENTITY: tl.constexpr, ADD: tl.constexpr, PLANES: tl.constexpr,
           WOUT: tl.constexpr, STATE: tl.constexpr, KEEP: tl.constexpr, SKIP: tl.constexpr, DOT: tl.constexpr,
           TC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    RAGGED: tl.constexpr = STEPS % TC != 0
    PARTS: tl.constexpr = 2 if DOT else 1
    tiles = stride // BN
    first = tl.program_id(0) % tiles * (BN // 32)
    m = tl.program_id(0) // tiles * BM + tl.arange(0, BM)
    good = m < rows
    x = m % wo
    y = m // wo % ho
    n = m // wo // ho
    cols = first * 32 + tl.arange(0, BN)
    ok_cols = cols < cout
    start = tl.load(bias + cols)[None, :]
    # Loaded, not computed: only then does the compiler spread the bits in the layout that the product reads.
    mask = tl.load(bits + tl.arange(0, 32))[None, :]
    at_v = m.to(tl.int64)[:, None] * cout + cols[None, :]
    ok_v = good[:, None] & ok_cols[None, :]
    if STATE:
        v = tl.load(v0 + at_v, mask=ok_v, other=0.0)
    else:
        v = tl.zeros((BM, BN), tl.float32) + rest
    for t in range(0, STEPS, TC):
        left = STEPS - t
        a0 = tl.zeros((BM, BN), tl.float32) + start
        a1 = a0
        a2 = a0
        a3 = a0
        a0, a1, a2, a3 = _accumulate(
            a0, a1, a2, a3, words0, mask, step0, left, weight0, lower0, stride, n, y, x, good, cols, h0, w0, sh0, sw0,
            ph0, pw0, dh0, dw0, KH0, KW0, CW0, P0, EXACT, SKIP, RAGGED, TC)  # fmt: skip
        if KH1 > 0:
            a0, a1, a2, a3 = _accumulate(
                a0, a1, a2, a3, words1, mask, step1, left, weight1, lower1, stride, n, y, x, good, cols, h1, w1, sh1,
                sw1, ph1, pw1, dh1, dw1, KH1, KW1, CW1, P1, EXACT, SKIP, RAGGED, TC)  # fmt: skip
        for i in tl.static_range(TC):
            if i == 0:
                acc = a0
            elif i == 1:
                acc = a1
            elif i == 2:
                acc = a2
            else:
                acc = a3
            v = _emit(acc, v, left - i, m, good, cols, ok_cols, first, cout, out, identity, add, keep, gain, tau,
                      threshold, rest, NEURON, not EXACT, LEAK, DECAY, INVERSE, SOFT, IDENTITY, ADD, PLANES, WOUT,
                      RAGGED, DOT, BM, BN)  # fmt: skip
            if NEURON:
                out += rows * (PLANES * PARTS * WOUT)
                add += rows * (ADD * PARTS * WOUT)
            identity += rows * (IDENTITY * WOUT)
        words0 += TC * step0
        words1 += TC * step1
    if KEEP:
        tl.store(v1 + at_v, v, mask=ok_v)


def pack(
    weights: list[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    identity: bool,
    planes: tuple[int, ...],
    precision: str,
) -> dict[str, Tensor]:
    """Return the tensors that the kernel reads; arguments as in `sparseflow.ops.spike_layer.pack_layer`.

    Weights become float16 `[1 or 2, kh*kw*ceil(C/32)*32, Cout up to a whole tile]`,
    the second half of "exact" being what the first leaves. In "fp16" the gain
    of the neuron is folded into weights and bias.

    Raises:
        UnsupportedError: a weight overflows float16.
    """
    cout = weights[0].shape[0]
    wide = -(-cout // 32) * 32 if cout <= 32 else -(-cout // 64) * 64
    gain, offset = (1.0, 0.0) if precision == "exact" else _fold(params)[1:]
    tensors = {}
    for number, weight in enumerate(weights):
        _, c, kh, kw = weight.shape
        w = weight.double().permute(2, 3, 1, 0) * gain
        if w.numel() and float(w.abs().max()) > LARGEST_HALF:
            raise UnsupportedError(f"pack_layer: a weight of {float(w.abs().max()):.3g} overflows float16")
        full = w.new_zeros(kh, kw, -(-c // WORD) * WORD, wide)
        full[:, :, :c, :cout] = w
        high = full.half()
        halves = [high, (full - high.double()).half()] if precision == "exact" else [high]
        tensors[f"weight{number}"] = torch.stack(halves).reshape(len(halves), -1, wide).contiguous()
    shifted = weights[0].new_zeros(wide, dtype=torch.float64)
    shifted[:cout] = (0.0 if bias is None else bias.detach().double()) * gain + offset
    bits = (1 << torch.arange(WORD, device=shifted.device)).to(torch.int32)
    return {**tensors, "bits": bits, "bias": shifted.float()}


def _fold(params: LIFParams | None) -> tuple[float, float, float]:
    """Return keep, gain and offset with which `h = keep*v + gain*x + offset`."""
    if params is None or params.kind == "if":
        return 1.0, 1.0, 0.0
    return 1.0 - 1.0 / params.tau, 1.0 / params.tau if params.decay_input else 1.0, params.v_rest / params.tau


def configs(weights: Any, steps: int) -> list[Config]:
    """Return the configurations worth timing for a layer, the default one first."""
    wide = weights.tensors["bias"].shape[0]
    most = next((k for k in (4, 3, 2) if steps % k == 0), 4 if steps > 4 else 1)
    most = 1 if weights.params is None else most
    # A program of 32 pixels a warp loads each word once; with fewer the compiler loads it in every lane.
    cuts = [(128, 32, 4, 4), (64, 32, 2, 4), (256, 32, 8, 4), (128, 32, 4, 2), (128, 64, 4, 2), (128, 64, 4, 1),
            (256, 64, 8, 1), (64, 64, 4, 4)]  # fmt: skip
    found = [
        Config(pixels=m, channels=n, together=min(t, most), warps=w)
        for m, n, w, t in cuts
        if wide % n == 0 and most % min(t, most) == 0
    ]
    dots = [one._replace(dot=True) for one in found if weights.params is not None and one.pixels == 32 * one.warps]
    return list(dict.fromkeys([*found, *dots[:2]]))


def spike_layer(
    sources: Sequence[Source],
    weights: Any,
    *,
    steps: int,
    identity: tuple[Tensor, int] | None = None,
    add: tuple[Tensor, int] | None = None,
    v0: Tensor | None = None,
    keep_v: bool = False,
    out: str = "words",
    out_planes: int = 1,
    config: Config | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run the layer; arguments as in `sparseflow.ops.spike_layer.spike_layer`, and how to cut it.

    Raises:
        UnsupportedError: the operands are too large for 32-bit offsets.
    """
    words = sources[0].words
    cout, (ho, wo), maps = weights.out_channels, sources[0].output(), words.shape[0]
    neuron = weights.params is not None
    config = configs(weights, steps if neuron else 1)[0] if config is None else config
    if not neuron:
        steps = 1
    n, wout = maps // steps, -(-cout // WORD)
    y, v = outputs(words, (ho, wo), cout, out=out, planes=out_planes)[1], None
    if keep_v:
        v = words.new_empty((n, ho, wo, cout), dtype=torch.float32).permute(0, 3, 1, 2)
    rows = n * ho * wo
    if rows == 0:
        return y, v
    biggest = max([*(s.words.numel() for s in sources), rows * steps * wout * max(out_planes, 2)])
    if biggest >= 2**31:
        raise UnsupportedError(f"spike_layer: kernel 'triton' takes fewer than 2**31 words, not {biggest}")
    keep, gain, _ = _fold(weights.params)
    exact, tensors = weights.precision != "fp16", weights.tensors
    x = [s._replace(words=s.words.contiguous()) for s in sources]
    one, two = x[0], x[1] if len(x) > 1 else x[0]
    halves = torch.int16 if config.dot else torch.int32
    state = None if v0 is None else v0.float().contiguous(memory_format=torch.channels_last)
    wide = tensors["bias"].shape[0]
    grid = (triton.cdiv(rows, config.pixels) * (wide // config.channels),)
    with torch.cuda.device_of(words):
        _layer[grid](
            one.words, tensors["weight0"], two.words, tensors.get("weight1", tensors["weight0"]), tensors["bits"],
            tensors["bias"], words if identity is None else identity[0].contiguous(),
            words if add is None else add[0].contiguous().view(halves),
            words if state is None else state, y.view(halves) if neuron else y, words if v is None else v,
            rows, cout, wide, ho, wo, *_moves(one, steps), *_moves(two, steps),
            tensors["weight0"][0].numel(), tensors.get("weight1", tensors["weight0"])[0].numel(),
            keep, 1.0 if exact else gain, **constants(weights.params or LIFParams()), NEURON=neuron, EXACT=exact,
            STEPS=steps, **_sizes(one, 0), **(_sizes(two, 1) if len(x) > 1 else _none(1)),
            IDENTITY=0 if identity is None else identity[1], ADD=0 if add is None else add[1], PLANES=out_planes,
            WOUT=wout, STATE=state is not None, KEEP=keep_v, SKIP=config.skip, DOT=config.dot, TC=config.together,
            BM=config.pixels, BN=config.channels, num_warps=config.warps, num_stages=config.stages,
        )  # fmt: skip
    return y, v


def _moves(source: Source, steps: int) -> tuple[int, ...]:
    """Return words of a step, height, width, stride, padding and dilation."""
    _, h, w, _ = source.words.shape
    return source.words.numel() // steps, h, w, *source.stride, *source.padding, *source.dilation


def _sizes(source: Source, number: int) -> dict[str, int]:
    kh, kw = source.kernel_size
    words = source.words.shape[3] // source.planes
    return {f"KH{number}": kh, f"KW{number}": kw, f"CW{number}": words, f"P{number}": source.planes}


def _none(number: int) -> dict[str, int]:
    return {f"{name}{number}": 0 for name in ("KH", "KW", "CW", "P")}
