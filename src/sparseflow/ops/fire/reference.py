"""`fire` and its gradient in plain torch, step by step."""

import math

import torch
from torch import Tensor

__all__ = ["backward", "forward"]


def forward(
    x: Tensor, out: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float, rest: float,
    soft: bool,
) -> None:  # fmt: skip
    """Write the spikes of `x` into `out`; see `fire`."""
    v: Tensor | float = rest
    for step, spikes in zip(x.chunk(steps), out.chunk(steps), strict=True):
        h = _charge(step.float(), v, tau, leak, decay_input, rest)
        spikes.copy_(h >= threshold)
        v = _reset(h, threshold, rest, soft)


def backward(
    grad: Tensor, x: Tensor, out: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float,
    rest: float, soft: bool, detach_reset: bool, alpha: float,
) -> None:  # fmt: skip
    """Write the gradient of the input into `out`; see `fire`."""
    v: Tensor | float = rest
    potentials = []
    for step in x.chunk(steps):
        potentials.append(_charge(step.float(), v, tau, leak, decay_input, rest))
        v = _reset(potentials[-1], threshold, rest, soft)
    keep, share = shares(tau, leak, decay_input)
    down = torch.zeros_like(potentials[0])
    for h, g, gx in zip(reversed(potentials), reversed(grad.chunk(steps)), reversed(out.chunk(steps)), strict=True):
        slope = (alpha / 2) / (1 + (math.pi / 2 * alpha * (h - threshold)).square())
        along = torch.ones_like(h) if soft else (h < threshold).float()
        if not detach_reset:
            along = along + slope * (-threshold if soft else rest - h)
        gh = g.float() * slope + down * along
        gx.copy_(gh * share)
        down = gh * keep


def shares(tau: float, leak: bool, decay_input: bool) -> tuple[float, float]:
    """Return dh/dv and dh/dx of one step."""
    return (1.0 - 1.0 / tau if leak else 1.0), (1.0 / tau if leak and decay_input else 1.0)


def _charge(x: Tensor, v: Tensor | float, tau: float, leak: bool, decay_input: bool, rest: float) -> Tensor:
    if not leak:
        return x + v
    if decay_input:
        return v + (x - (v - rest)) / tau
    h: Tensor = v - (v - rest) / tau + x
    return h


def _reset(h: Tensor, threshold: float, rest: float, soft: bool) -> Tensor:
    return torch.where(h >= threshold, h - threshold if soft else rest, h)
