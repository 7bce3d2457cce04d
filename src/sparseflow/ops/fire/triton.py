"""Triton kernels of `fire` and of its gradient; each program takes a block of neurons through all steps."""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops.fire.reference import shares

__all__ = ["backward", "forward"]

BLOCK = 1024


@triton.jit
def _charge(x, v, tau, rest, LEAK: tl.constexpr, DECAY: tl.constexpr):
    if LEAK:
        if DECAY:
            h = v + (x - (v - rest)) / tau
        else:
            h = v - (v - rest) / tau + x
    else:
        h = v + x
    return h


@triton.jit
def _reset(h, threshold, rest, SOFT: tl.constexpr):
    if SOFT:
        v = tl.where(h >= threshold, h - threshold, h)
    else:
        v = tl.where(h >= threshold, rest, h)
    return v


@triton.jit
def _forward(x, out, n, tau, threshold, rest, STEPS: tl.constexpr, LEAK: tl.constexpr, DECAY: tl.constexpr,
             SOFT: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    v = tl.zeros((BLOCK,), tl.float32) + rest
    for t in tl.static_range(STEPS):
        h = _charge(tl.load(x + t * n + at, mask=inside, other=0.0).to(tl.float32), v, tau, rest, LEAK, DECAY)
        tl.store(out + t * n + at, (h >= threshold).to(out.dtype.element_ty), mask=inside)
        v = _reset(h, threshold, rest, SOFT)


@triton.jit
def _backward(grad, x, out, n, tau, threshold, rest, keep, share, half_alpha, curve, STEPS: tl.constexpr,
              LEAK: tl.constexpr, DECAY: tl.constexpr, SOFT: tl.constexpr, DETACH: tl.constexpr,
              BLOCK: tl.constexpr):  # fmt: skip
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < n
    down = tl.zeros((BLOCK,), tl.float32)
    for back in tl.static_range(STEPS):
        # Potentials are computed again from the first step: cheaper than keeping them for few steps.
        v = tl.zeros((BLOCK,), tl.float32) + rest
        h = v
        for u in tl.static_range(STEPS - back):
            h = _charge(tl.load(x + u * n + at, mask=inside, other=0.0).to(tl.float32), v, tau, rest, LEAK, DECAY)
            v = _reset(h, threshold, rest, SOFT)
        z = curve * (h - threshold)
        slope = half_alpha / (1.0 + z * z)
        if SOFT:
            along = tl.zeros((BLOCK,), tl.float32) + 1.0
            if not DETACH:
                along = along - slope * threshold
        else:
            along = tl.where(h >= threshold, 0.0, 1.0)
            if not DETACH:
                along = along + slope * (rest - h)
        here = (STEPS - 1 - back) * n + at
        g = tl.load(grad + here, mask=inside, other=0.0).to(tl.float32) * slope + down * along
        tl.store(out + here, (g * share).to(out.dtype.element_ty), mask=inside)
        down = g * keep


def _dense(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` laid out as `like`, which is dense with time outermost."""
    return x if x.stride() == like.stride() else torch.empty_like(like, dtype=x.dtype).copy_(x)


def _outermost(x: Tensor) -> bool:
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def forward(
    x: Tensor, out: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float, rest: float,
    soft: bool,
) -> None:  # fmt: skip
    """Write the spikes of `x` into `out`; see `fire`."""
    target = out
    if not _outermost(x) or not _outermost(out):
        x, target = x.contiguous(), torch.empty_like(out, memory_format=torch.contiguous_format)
    n = x.numel() // steps
    _forward[(triton.cdiv(n, BLOCK),)](
        x, target, n, tau, threshold, rest, STEPS=steps, LEAK=leak, DECAY=decay_input, SOFT=soft, BLOCK=BLOCK
    )
    if target is not out:
        out.copy_(target)


def backward(
    grad: Tensor, x: Tensor, out: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float,
    rest: float, soft: bool, detach_reset: bool, alpha: float,
) -> None:  # fmt: skip
    """Write the gradient of the input into `out`; see `fire`."""
    target = out
    if not _outermost(x) or not _outermost(out):
        x, target = x.contiguous(), torch.empty_like(out, memory_format=torch.contiguous_format)
    grad = _dense(grad, x)
    n = x.numel() // steps
    keep, share = shares(tau, leak, decay_input)
    _backward[(triton.cdiv(n, BLOCK),)](
        grad, x, target, n, tau, threshold, rest, keep, share, alpha / 2, math.pi / 2 * alpha, STEPS=steps, LEAK=leak,
        DECAY=decay_input, SOFT=soft, DETACH=detach_reset, BLOCK=BLOCK,
    )  # fmt: skip
    if target is not out:
        out.copy_(target)
