"""LSQ: rounding to codes whose scale is learnt, with the gradients of the paper."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError, DataError

__all__ = ["LsqQuantizer", "lsq", "round_through", "scale_gradient"]

_SMALLEST = 1e-12


class _Lsq(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, qmin: int, qmax: int, share: float) -> Tensor:
        steps = x / scale
        codes = steps.round().clamp_(qmin, qmax)
        ctx.save_for_backward(steps, codes, scale)
        ctx.ends, ctx.share = (qmin, qmax), share
        return codes * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (steps, codes, scale), (qmin, qmax), grad = ctx.saved_tensors, ctx.ends, grads[0]
        inside = (steps >= qmin) & (steps <= qmax)
        by_scale = grad * torch.where(inside, codes - steps, codes)
        return grad * inside, by_scale.sum_to_size(scale.shape) * ctx.share, None, None, None


def lsq(x: Tensor, scale: Tensor, qmin: int, qmax: int, *, share: float | None = None) -> Tensor:
    """Return real numbers on the grid of their codes: s · clamp(round(x/s), q_min, q_max), ties to even.

    The gradients: ∂/∂x passes inside the range and is 0 outside; ∂/∂s = round(x/s) − x/s inside, q_min or q_max
    outside, summed over what shares a scale and times `share`.

    Args:
        x: any shape.
        scale: positive; broadcasts with `x`.
        qmin: smallest code.
        qmax: largest code.
        share: factor of the scale's gradient; None for the paper's 1/√(n · q_max), n numbers a scale.

    Source: Esser et al., "Learned Step Size Quantization", ICLR 2020, equations 1 to 3 and section 2.2.

    >>> lsq(torch.tensor([0.3, 0.8, 9.0]), torch.tensor(0.5), -3, 3)
    tensor([0.5000, 1.0000, 1.5000])
    """
    if share is None:
        share = 1.0 / math.sqrt(max(x.numel() // max(scale.numel(), 1), 1) * qmax)
    found: Tensor = _Lsq.apply(x, scale, qmin, qmax, share)  # type: ignore[no-untyped-call]
    return found


class _RoundThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        del ctx
        return x.round()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        del ctx
        return grads[0]


def round_through(x: Tensor) -> Tensor:
    """Return `x` rounded, ties to even, with the gradient passed straight through.

    >>> round_through(torch.tensor([0.5, 1.5]))
    tensor([0., 2.])
    """
    found: Tensor = _RoundThrough.apply(x)  # type: ignore[no-untyped-call]
    return found


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, share: float) -> Tensor:
        ctx.share = share
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.share, None


def scale_gradient(x: Tensor, share: float) -> Tensor:
    """Return `x` itself, whose gradient is multiplied by `share`."""
    found: Tensor = _ScaleGradient.apply(x, share)  # type: ignore[no-untyped-call]
    return found


class LsqQuantizer(nn.Module):
    """Round to codes with learnt scales.

    The first batch sets the scales: 2 · mean |x| / √q_max, as the paper does.

    Args:
        bits: of a code, 2 to 16.
        signed: symmetric codes ±(2^(bits−1) − 1), else 0 … 2^bits − 1.
        channels: scales, one for each place of the first axis; None for one.

    Shapes: `[C, ...]` or any, to the same.

    Raises:
        ConfigError: the bits are out of range.

    >>> quantizer = LsqQuantizer(bits=4)
    >>> quantizer(torch.ones(3)).tolist() == [float(quantizer.scale)] * 3
    True
    """

    ready: Tensor

    def __init__(self, *, bits: int, signed: bool = True, channels: int | None = None) -> None:
        super().__init__()
        if not 2 <= bits <= 16:
            raise ConfigError(f"LSQ with {bits} bits; expected 2 to 16")
        self.qmax = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
        self.qmin = -self.qmax if signed else 0
        self.scale = nn.Parameter(torch.ones(() if channels is None else channels))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` on the grid of its codes.

        Raises:
            DataError: the first batch is not finite.
        """
        if not bool(self.ready):
            self.start(x)
        return lsq(x, self._steps(x), self.qmin, self.qmax)

    @torch.no_grad()
    def start(self, x: Tensor) -> None:
        """Set the scales from a batch.

        Raises:
            DataError: it is not finite.
        """
        size = x.abs().mean() if self.scale.ndim == 0 else x.flatten(1).abs().mean(1)
        if not bool(torch.isfinite(size).all()):
            raise DataError("LSQ met a NaN or an infinity in its first batch; mend the batch or the weights")
        self.scale.copy_(torch.where(size > 0, 2 * size / math.sqrt(self.qmax), torch.ones_like(size)))
        self.ready.fill_(True)

    @torch.no_grad()
    def codes(self, x: Tensor) -> Tensor:
        """Return the codes, whole numbers in the type of `x`."""
        return (x / self._steps(x)).round().clamp_(self.qmin, self.qmax)

    def _steps(self, x: Tensor) -> Tensor:
        # A step of the optimiser may push a scale through 0.
        scale = self.scale.abs().clamp(min=_SMALLEST)
        return scale if scale.ndim == 0 else scale.view(-1, *[1] * (x.ndim - 1))

    def extra_repr(self) -> str:
        """Return the range of the codes."""
        return f"codes {self.qmin}..{self.qmax}, {self.scale.numel()} scales"
