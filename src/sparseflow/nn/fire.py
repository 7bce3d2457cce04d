"""Integrate and fire over all steps in one operator for training, which keeps only its input.

Autograd through a loop over T keeps every potential. Here the backward pass computes
them again from the input, so that a step moves and keeps a quarter of the bytes, and a
compiler sees one node instead of dozens. On CUDA both passes are Triton kernels.
"""

import math
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError

__all__ = ["fire"]


def fire(
    x: Tensor,
    *,
    steps: int,
    tau: float = 2.0,
    leak: bool = True,
    decay_input: bool = True,
    threshold: float = 1.0,
    v_reset: float | None = 0.0,
    detach_reset: bool = False,
    alpha: float = 2.0,
) -> Tensor:
    """Return the spikes of neurons that start at rest.

    The mathematics is that of `nn.neurons`: a LIF neuron, or an IF neuron without
    `leak`. The gradient is that of the `ATan(alpha)` surrogate. The potential is
    integrated in float32 and not returned.

    Args:
        x: `[T*N, ...]` input currents, time outermost.
        steps: T.
        tau: time constant in steps.
        leak: whether the membrane leaks.
        decay_input: whether the input decays with the membrane.
        threshold: firing threshold.
        v_reset: potential at rest and after a spike; None for reset by subtraction, rest 0.
        detach_reset: cut the gradient through the reset.
        alpha: steepness of the surrogate gradient.

    Returns:
        `[T*N, ...]` zeros and ones, in the dtype and layout of `x`.

    Raises:
        ConfigError: `steps` does not divide the first size.

    >>> fire(torch.tensor([1.5, 1.5, 3.0]), steps=3)
    tensor([0., 1., 1.])
    """
    if steps < 1 or x.ndim < 1 or x.shape[0] % steps:
        raise ConfigError(f"fire: {steps} steps do not divide an input of shape {tuple(x.shape)}")
    rest, soft = (0.0, True) if v_reset is None else (v_reset, False)
    spikes: Tensor = _fire(x, steps, tau, leak, decay_input, threshold, rest, soft, detach_reset, alpha)
    return spikes


@torch.library.custom_op("sparseflow::fire", mutates_args=())
def _fire(
    x: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float, rest: float, soft: bool,
    detach_reset: bool, alpha: float,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(x)
    if not x.numel():
        return out
    if x.is_cuda:
        from sparseflow.nn import fire_triton

        fire_triton.forward(x, out, steps, tau, leak, decay_input, threshold, rest, soft)
        return out
    v: Any = rest
    for step, spikes in zip(x.chunk(steps), out.chunk(steps), strict=True):
        h = _charge(step.float(), v, tau, leak, decay_input, rest)
        s = (h >= threshold).float()
        v = h - s * threshold if soft else torch.where(s > 0, rest, h)
        spikes.copy_(s)
    return out


@torch.library.custom_op("sparseflow::fire_backward", mutates_args=())
def _fire_backward(
    grad: Tensor, x: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float, rest: float,
    soft: bool, detach_reset: bool, alpha: float,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(x)
    if not x.numel():
        return out
    if x.is_cuda:
        from sparseflow.nn import fire_triton

        fire_triton.backward(grad, x, out, steps, tau, leak, decay_input, threshold, rest, soft, detach_reset, alpha)
        return out
    v: Any = rest
    potentials = []
    for step in x.chunk(steps):
        h = _charge(step.float(), v, tau, leak, decay_input, rest)
        potentials.append(h)
        v = h - (h >= threshold).float() * threshold if soft else torch.where(h >= threshold, rest, h)
    keep = 1.0 - 1.0 / tau if leak else 1.0
    share = 1.0 / tau if leak and decay_input else 1.0
    down = torch.zeros_like(potentials[0])
    for h, g, gx in zip(reversed(potentials), reversed(grad.chunk(steps)), reversed(out.chunk(steps)), strict=True):
        s = (h >= threshold).float()
        slope = (alpha / 2) / (1 + (math.pi / 2 * alpha * (h - threshold)).square())
        along = torch.ones_like(h) if soft else 1.0 - s
        if not detach_reset:
            along = along + slope * (-threshold if soft else rest - h)
        gh = g.float() * slope + down * along
        gx.copy_(gh * share)
        down = gh * keep
    return out


def _charge(x: Tensor, v: Any, tau: float, leak: bool, decay_input: bool, rest: float) -> Tensor:
    if not leak:
        return x + v
    return v + (x - (v - rest)) / tau if decay_input else v - (v - rest) / tau + x


@_fire.register_fake
def _(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


@_fire_backward.register_fake
def _(grad: Tensor, x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.constants = inputs[1:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (x,) = ctx.saved_tensors
    return _fire_backward(grad, x, *ctx.constants), *(None,) * len(ctx.constants)


_fire.register_autograd(_backward, setup_context=_setup)
