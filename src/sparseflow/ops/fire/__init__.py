"""Integrate and fire over all steps in one operator for training, which keeps only its input.

Autograd through a loop over T keeps every potential. Here the backward pass computes
them again from the input, so that a step moves and keeps a quarter of the bytes, and a
compiler sees one node instead of dozens. On CUDA both passes are Triton kernels.
"""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops.fire import reference
from sparseflow.ops.fire.space import OP

__all__ = ["OP", "fire"]


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
    if x.numel():
        _kernels(x).forward(x, out, steps, tau, leak, decay_input, threshold, rest, soft)
    return out


@torch.library.custom_op("sparseflow::fire_backward", mutates_args=())
def _fire_backward(
    grad: Tensor, x: Tensor, steps: int, tau: float, leak: bool, decay_input: bool, threshold: float, rest: float,
    soft: bool, detach_reset: bool, alpha: float,
) -> Tensor:  # fmt: skip
    out = torch.empty_like(x)
    if x.numel():
        _kernels(x).backward(grad, x, out, steps, tau, leak, decay_input, threshold, rest, soft, detach_reset, alpha)
    return out


def _kernels(x: Tensor) -> Any:
    if not x.is_cuda:
        return reference
    from sparseflow.ops.fire import triton

    return triton


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
