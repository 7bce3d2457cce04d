"""Fake quantisation: real numbers on the grid of their codes, with the gradient passed straight through."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress.quantize.spec import QuantConfig, QuantSpec
from sparseflow.errors import DataError

__all__ = ["FakeQuantize", "WeightFakeQuantize", "codes_of"]

_SMALLEST_SCALE = 2.0**-23
_SMALLEST_WEIGHT = 1e-30


class _Codes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
        inverse = scale.reciprocal()
        codes = torch.round(x * inverse) + zero_point
        ctx.save_for_backward((codes >= qmin) & (codes <= qmax), inverse)
        return codes.clamp_(qmin, qmax)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inside, inverse = ctx.saved_tensors
        return grads[0] * inverse * inside, None, None, None, None


def codes_of(x: Tensor, scale: Tensor, zero_point: Tensor, qmin: int, qmax: int) -> Tensor:
    """Return the codes of real numbers, with a gradient that passes straight through.

    code = clamp(round(x / scale) + zero_point, qmin, qmax); the derivative by x is 1 / scale where the rounded code
    lies in the range and 0 elsewhere; scale and zero point get none.

    Args:
        x: any shape.
        scale: positive; broadcasts with `x`.
        zero_point: whole numbers; broadcasts with `x`.
        qmin: smallest code.
        qmax: largest code.

    Source: Bengio et al., arXiv 1308.3432 (straight-through estimator); Jacob et al., CVPR 2018, section 3.
    """
    found: Tensor = _Codes.apply(x, scale, zero_point, qmin, qmax)  # type: ignore[no-untyped-call]
    return found


class _Grid(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, qmax: int, fits: bool) -> Tensor:
        # In place and without what a zero point needs, as training repeats it for every weight at every step.
        codes = (x * scale.reciprocal()).round_()
        ctx.save_for_backward(None if fits else codes.abs() <= qmax)
        return codes.clamp_(-qmax, qmax).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return grads[0] if inside is None else grads[0] * inside, None, None, None


class FakeQuantize(nn.Module):
    """Rounds activations to codes and back, and watches their range.

    While it observes and is in training mode, each batch moves the range: low += averaging · (min − low), and the
    same for high; the first batch sets both. In eval mode nothing changes, so that the same input gives the same
    output.

    Args:
        config: range of codes and averaging.
        point: name of the graph's node whose value this is.

    Attributes:
        observing: whether batches in training mode move the range.
        calibrating: whether they do in eval mode too.
        enabled: rounds if true; passes values on unchanged if false.
        edit: None, or a function from codes to codes, applied between rounding and scaling back; its own gradient
            decides what it passes.
        replace: None, or a function that does all of it, rounding, editing and scaling back, in their place.

    Shapes: `[N, ...]` float32 to the same.
    """

    low: Tensor
    high: Tensor
    scale: Tensor
    zero_point: Tensor
    seen: Tensor

    def __init__(self, config: QuantConfig, point: str = "") -> None:
        super().__init__()
        self.qmin, self.qmax, self.averaging, self.point = 0, config.activation_max, config.averaging, point
        self.observing, self.calibrating, self.enabled = True, False, True
        self.edit: Callable[[Tensor], Tensor] | None = None
        self.replace: Callable[[Tensor], Tensor] | None = None
        for name, value in (("low", 0.0), ("high", 0.0), ("scale", 1.0), ("zero_point", 0.0)):
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("seen", torch.tensor(False))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` on the grid of its codes."""
        if self.observing and (self.training or self.calibrating):
            self.observe(x)
        if not self.enabled:
            return x
        if self.replace is not None:
            return self.replace(x)
        codes = codes_of(x, self.scale, self.zero_point, self.qmin, self.qmax)
        if self.edit is not None:
            codes = self.edit(codes)
        return (codes - self.zero_point) * self.scale

    @torch.no_grad()
    def observe(self, x: Tensor) -> None:
        """Move the range towards that of a batch; an empty one changes nothing."""
        if x.numel() == 0:
            return
        low, high = torch.aminmax(x.detach().float())
        share = torch.where(self.seen, self.averaging, 1.0).to(self.low)
        self.low.lerp_(low.clamp(max=0.0), share)
        self.high.lerp_(high.clamp(min=0.0), share)
        self.seen.fill_(True)
        steps = self.qmax - self.qmin
        self.scale.copy_(((self.high - self.low) / steps).clamp(min=_SMALLEST_SCALE))
        self.zero_point.copy_((self.qmin - torch.round(self.low / self.scale)).clamp(self.qmin, self.qmax))

    def spec(self) -> QuantSpec:
        """Return what the codes stand for now.

        Raises:
            DataError: no batch was seen yet, or a range is not finite; says where.
        """
        where = self.point or "a quantiser"
        if not bool(self.seen):
            raise DataError(f"{where} has no range yet; run a batch in training mode, or calibrate")
        if not bool(torch.isfinite(self.scale)):
            raise DataError(f"{where} saw NaN or infinity; mend the batches or the learning rate, then calibrate")
        return QuantSpec(scale=float(self.scale), zero_point=int(self.zero_point), qmin=self.qmin, qmax=self.qmax)

    def extra_repr(self) -> str:
        """Return point and range for printing."""
        return f"{self.point or '?'}, codes {self.qmin}..{self.qmax}, scale {float(self.scale):.3g}"


class WeightFakeQuantize(nn.Module):
    """Rounds weights to codes and back, with one scale for each output channel and zero point 0.

    scale[c] = max |w[c]| / weight_max, taken from the weights themselves at each call while it observes, and kept
    afterwards. A channel of zeros has scale 1.

    Args:
        config: range of codes.
        channels: output channels.

    Attributes:
        observing: whether the scales follow the weights.
        enabled: rounds if true; passes weights on unchanged if false.

    Shapes: `[C_out, ...]` float32 to the same.
    """

    scale: Tensor

    def __init__(self, config: QuantConfig, channels: int) -> None:
        super().__init__()
        self.qmax = config.weight_max
        self.observing, self.enabled = True, True
        self.register_buffer("scale", torch.ones(channels))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights on the grid of their codes."""
        if self.observing:
            self.observe(weight)
        if not self.enabled:
            return weight
        scale = self.scale.view(-1, *[1] * (weight.dim() - 1))
        found: Tensor = _Grid.apply(weight, scale, self.qmax, self.observing)  # type: ignore[no-untyped-call]
        return found

    @torch.no_grad()
    def observe(self, weight: Tensor) -> None:
        """Fit the scales to the weights."""
        within = tuple(range(1, weight.dim()))
        empty = not weight[0].numel()
        largest = weight.new_zeros(len(weight)) if empty else torch.linalg.vector_norm(weight, torch.inf, within)
        fitted = (largest / self.qmax).clamp(min=_SMALLEST_WEIGHT)
        self.scale.copy_(torch.where(largest > 0, fitted, 1.0))

    @torch.no_grad()
    def codes(self, weight: Tensor) -> Tensor:
        """Return the codes of the weights, whole numbers in float32, in the shape of `weight`."""
        scale = self.scale.view(-1, *[1] * (weight.dim() - 1))
        return codes_of(weight, scale, torch.zeros_like(scale), -self.qmax, self.qmax)
