"""Entropies over windows and groups from the features themselves: distributions never reach memory."""

from collections.abc import Sequence
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops.window_entropy.reference import EPS

__all__ = ["LARGEST", "forward"]

# Numbers of a patch over all times that one program holds in registers.
LARGEST = 32768
# Channels and patches of a step of `_groups`.
WIDE, STEP = 64, 16


@triton.jit
def _windows(
    x, ends, out, center, scale, shift, times, patches, channels, count, tau, eps,
    STANDARD: tl.constexpr, T: tl.constexpr, C: tl.constexpr,
):  # fmt: skip
    n = tl.program_id(0)
    b = tl.program_id(1).to(tl.int64)
    t = tl.arange(0, T)
    c = tl.arange(0, C)
    inside = (t < times)[:, None] & (c < channels)[None, :]
    row = (b * times + t) * patches + n
    v = tl.load(x + row[:, None] * channels + c[None, :], mask=inside, other=0.0).to(tl.float32)
    if STANDARD:
        mean = tl.sum(v, 1) / channels
        apart = tl.where(inside, v - mean[:, None], 0.0)
        factor = 1.0 / (tl.sqrt(tl.sum(apart * apart, 1) / channels + eps) * tau)
    else:
        mean = tl.zeros([T], tl.float32)
        apart = v
        factor = tl.zeros([T], tl.float32) + 1.0 / tau
    z = tl.where(inside, apart * factor[:, None], -float("inf"))
    z = tl.where((t < times)[:, None], z, 0.0)
    top = tl.max(z, 1)
    e = tl.exp(z - top[:, None])
    total = tl.sum(e, 1)
    p = e / total[:, None]
    # p = exp((x − center)·scale − shift), for the groups.
    tl.store(center + row, mean, mask=t < times)
    tl.store(scale + row, factor, mask=t < times)
    tl.store(shift + row, top + tl.log(total), mask=t < times)
    for w in range(count):
        first = tl.load(ends + 2 * w)
        last = tl.load(ends + 2 * w + 1)
        here = ((t >= first) & (t < last))[:, None] & inside
        q = tl.sum(tl.where(here, p, 0.0), 0) / (last - first)
        tl.store(out + (b * count + w) * patches + n, -tl.sum(q * tl.log(q + eps), 0))


@triton.jit
def _groups(
    x, members, center, scale, shift, out, patches, channels, groups, parts, eps,
    G: tl.constexpr, WIDE: tl.constexpr, STEP: tl.constexpr,
):  # fmt: skip
    part = tl.program_id(0)
    frame = tl.program_id(1).to(tl.int64)
    g = tl.arange(0, G)
    c = part * WIDE + tl.arange(0, WIDE)
    q = tl.zeros([G, WIDE], tl.float32)
    for start in range(0, patches, STEP):
        n = start + tl.arange(0, STEP)
        row = frame * patches + n
        there = n < patches
        mean = tl.load(center + row, mask=there, other=0.0)
        factor = tl.load(scale + row, mask=there, other=0.0)
        less = tl.load(shift + row, mask=there, other=0.0)
        inside = there[:, None] & (c < channels)[None, :]
        v = tl.load(x + row[:, None] * channels + c[None, :], mask=inside, other=0.0).to(tl.float32)
        p = tl.where(inside, tl.exp((v - mean[:, None]) * factor[:, None] - less[:, None]), 0.0)
        share = tl.load(
            members + g[:, None] * patches + n[None, :], mask=(g < groups)[:, None] & there[None, :], other=0.0
        )
        q = tl.dot(share, p, q, input_precision="ieee")
    h = -tl.sum(q * tl.log(q + eps), 1)
    tl.store(out + (frame * groups + g) * parts + part, h, mask=g < groups)


@cache
def _table(windows: tuple[tuple[int, int], ...], device: torch.device) -> Tensor:
    """Starts and ends on a device, made once: a recorded graph must not copy them."""
    return torch.tensor(windows, dtype=torch.int32, device=device)


def forward(
    x: Tensor, windows: Sequence[tuple[int, int]], members: Tensor, tau: float, standardize: bool
) -> tuple[Tensor, Tensor]:
    """Return entropies over windows `[B, W, N]` and over groups `[B, T, G]` in float32, as the reference does.

    Args:
        x: `[B, T, N, C]`, not empty; T and C, each up to a power of two, hold `LARGEST` numbers together at most.
        windows: starts and ends, none empty; at least one.
        members: float32 `[G, N]`; G may be 0.
        tau: temperature.
        standardize: whether to standardise.
    """
    x, members = x.contiguous(), members.float().contiguous()
    batch, times, patches, channels = x.shape
    groups, parts = len(members), -(-channels // WIDE)
    real = {"dtype": torch.float32, "device": x.device}
    time = torch.empty(batch, len(windows), patches, **real)  # type: ignore[call-overload]
    numbers = [torch.empty(batch, times, patches, **real) for _ in range(3)]  # type: ignore[call-overload]
    space = torch.empty(batch, times, groups, parts, **real)  # type: ignore[call-overload]
    tall, wide = _power(times), _power(channels)
    with torch.cuda.device_of(x):
        _windows[(patches, batch)](
            x, _table(tuple(windows), x.device), time, *numbers, times, patches, channels, len(windows),
            float(tau), EPS, STANDARD=standardize, T=tall, C=wide, num_warps=_warps(tall * wide),
        )  # fmt: skip
        if groups:
            _groups[(parts, batch * times)](
                x, members, *numbers, space, patches, channels, groups, parts, EPS,
                G=max(16, _power(groups)), WIDE=WIDE, STEP=STEP,
            )  # fmt: skip
    return time, space.sum(-1)


def _warps(numbers: int) -> int:
    """Return warps by numbers of a patch: sums that cross more warps take longer, on an H200 263 µs against 107."""
    return 4 if numbers <= 8192 else 8


def _power(n: int) -> int:
    return 1 << (n - 1).bit_length()
