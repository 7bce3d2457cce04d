"""Rounding to codes and a tri-segment in one pass, with a gradient: what training on approximated codes repeats."""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops.lif import on_triton
from sparseflow.ops.round_segment import reference

__all__ = ["round_segment"]

_MODES = ("pass", "clip", "saturate")
_KERNELS = ("auto", "dense", "triton")


class _RoundSegment(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, real: Tensor, whole: Tensor, scale: Tensor, mode: str, qmax: int, window: int, fast: bool
    ) -> Tensor:
        found = _kernels(fast).forward(x, whole, scale, mode, qmax)
        out: Tensor = found[0]
        ctx.save_for_backward(found[1], whole, scale)
        ctx.settings = mode, qmax, window
        ctx.fast = fast
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept, whole, scale = ctx.saved_tensors
        mode, qmax, window = ctx.settings
        kernels = _kernels(ctx.fast)
        passed, sums = kernels.backward(grads[0], kept, whole, scale, mode, qmax, window)
        real = kernels.slopes(sums, whole, window) if ctx.needs_input_grad[1] else None
        return passed, real, *[None] * 6


def _kernels(fast: bool) -> Any:
    if fast:
        from sparseflow.ops.round_segment import triton

        return triton
    return reference


def round_segment(
    x: Tensor,
    real: Tensor,
    whole: Tensor,
    scale: Tensor,
    *,
    mode: str = "pass",
    qmax: int = 127,
    window: int = 2,
    kernel: str = "auto",
) -> Tensor:
    """Return x on the grid of its approximated codes, scale·f(clamp(round(x / scale), 0, qmax)), with a gradient.

    f is a tri-segment as in `sparseflow.ops.triseg`. With g = ∂loss/∂f:

    * ∂/∂x passes straight through where the rounded code lies in 0 to `qmax`, and up to tmax unless in mode "pass".
    * ∂/∂v1 = Σ_{t1 < q ≤ t2} g and ∂/∂v2 = Σ_{t2 < q} g (up to tmax unless in mode "clip").
    * ∂/∂t1 = −v1·(mean of g over the codes in (t1 − window, t1 + window]), ∂/∂t2 likewise with v2 − v1; the windows
      end at 0 and tmax.

    Args:
        x: any shape; float32, float16 or bfloat16.
        real: `[4]`: t1, v1, t2, v2 as they are trained; only their gradient matters.
        whole: int64 `[5]`: t1, v1, t2, v2, tmax, which are applied; in order.
        scale: float32 `[]`, positive: what one code stands for; code 0 stands for 0.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.
        qmax: greatest code, at most 253.
        window: half width in codes over which the gradient of a threshold is taken, at least 1.
        kernel: "dense", "triton", or "auto" for the fastest that runs.

    Returns:
        The shape and type of `x`.

    Raises:
        ConfigError: no such mode or kernel, or a number out of range.

    Cost: reads x and writes values and a byte an element; the gradient reads a value and a byte and writes a value.
    Source: straight-through estimator of Bengio et al., arXiv 1308.3432; ours for the thresholds.

    >>> t = torch.tensor([7.0, 14.0, 21.0, 28.0], requires_grad=True)
    >>> codes = torch.tensor([7, 14, 21, 28, 35])
    >>> round_segment(torch.tensor([0.2, 3.5, 4.1, 15.0, 18.0]), t, codes, torch.tensor(0.5)).tolist()
    [0.0, 0.0, 7.0, 14.0, 18.0]
    """
    if mode not in _MODES:
        raise ConfigError(f"round_segment: mode is {mode!r}; expected one of {', '.join(_MODES)}")
    if kernel not in _KERNELS:
        raise ConfigError(f"round_segment: kernel is {kernel!r}; expected one of {', '.join(_KERNELS)}")
    if window < 1 or not 0 < qmax < reference.BELOW:
        raise ConfigError(f"round_segment: window is {window} and qmax {qmax}; expected at least 1, and 1 to 253")
    fast = kernel == "triton" or (kernel == "auto" and on_triton(x))
    out: Tensor = _RoundSegment.apply(x, real, whole, scale, mode, qmax, window, fast)  # type: ignore[no-untyped-call]
    return out
