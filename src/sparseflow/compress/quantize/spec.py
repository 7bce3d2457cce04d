"""What a code stands for: scale, zero point and range of a quantised tensor."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ir import Precision

__all__ = ["QuantConfig", "QuantSpec", "dequantize", "quantize"]

_SMALLEST_SCALE = 2.0**-23


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSpec:
    """Maps codes to real numbers: x = scale · (code − zero_point).

    Args:
        scale: real value of one step.
        zero_point: the code of 0; it is 0 behind a ReLU.
        qmin: smallest code.
        qmax: largest code; 127 leaves products of pairs room in 16 bits, as fbgemm asks.

    Raises:
        ConfigError: the scale is not positive and finite, the range is empty or wider than 8 bits, or the zero
            point lies outside of it.

    >>> spec = QuantSpec(scale=0.5)
    >>> spec.low, spec.high
    (0.0, 63.5)
    """

    scale: float
    zero_point: int = 0
    qmin: int = 0
    qmax: int = 127

    def __post_init__(self) -> None:
        """Check the fields."""
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise ConfigError(f"QuantSpec.scale is {self.scale}; expected a positive, finite number")
        if not 0 < self.qmax - self.qmin <= 255:
            raise ConfigError(f"QuantSpec has codes {self.qmin}..{self.qmax}; expected 2 to 256 of them")
        if not self.qmin <= self.zero_point <= self.qmax:
            raise ConfigError(
                f"QuantSpec.zero_point is {self.zero_point}; expected a code of {self.qmin}..{self.qmax}, "
                "so that 0 is exact"
            )

    @classmethod
    def from_range(cls, low: float, high: float, *, qmin: int = 0, qmax: int = 127) -> "QuantSpec":
        """Return the specification whose codes span a range that is first widened to hold 0.

        scale = (high − low) / (qmax − qmin), zero_point = qmin − round(low / scale).

        Args:
            low: smallest real value.
            high: largest real value.
            qmin: smallest code.
            qmax: largest code.

        Raises:
            ConfigError: an end is not finite, or `low` is above `high`.

        >>> QuantSpec.from_range(-1.0, 3.0, qmax=4).zero_point
        1
        """
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ConfigError(f"cannot quantise the range {low}..{high}; expected two finite numbers in order")
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / (qmax - qmin), _SMALLEST_SCALE)
        return cls(scale=scale, zero_point=min(max(qmin - round(low / scale), qmin), qmax), qmin=qmin, qmax=qmax)

    @property
    def low(self) -> float:
        """Smallest real value that has a code."""
        return self.scale * (self.qmin - self.zero_point)

    @property
    def high(self) -> float:
        """Largest real value that has a code."""
        return self.scale * (self.qmax - self.zero_point)

    @property
    def reach(self) -> int:
        """Largest distance of a code from the zero point."""
        return max(self.qmax - self.zero_point, self.zero_point - self.qmin)

    @property
    def precision(self) -> Precision:
        """The same arithmetic as the noun that plans and exports use."""
        return Precision(kind="int" if self.qmin < 0 else "uint", bits=8, scale=self.scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantConfig:
    """How a model is quantised.

    Args:
        activation_max: largest code of activations, which are 0..activation_max.
        weight_max: weights are −weight_max..weight_max, one scale a channel. The range is symmetric, so that a
            negative factor of a normalisation folds into the codes exactly.
        averaging: share of a new batch in the moving average of the ranges.
        quantize_logits: give the last layer codes too, as fbgemm does; else its sums become float32 at once.

    Raises:
        ConfigError: a value is outside its range.
    """

    activation_max: int = 127
    weight_max: int = 127
    averaging: float = 0.01
    quantize_logits: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, most in (("activation_max", 255), ("weight_max", 127)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ConfigError(f"QuantConfig.{name} is {value}; expected 1 to {most}")
        if not 0 < self.averaging <= 1:
            raise ConfigError(f"QuantConfig.averaging is {self.averaging}; expected more than 0, at most 1")


def quantize(x: Tensor, spec: QuantSpec) -> Tensor:
    """Return the codes of real numbers: clamp(round(x / scale) + zero_point, qmin, qmax).

    Rounds halves to even. The division is a product with float32(1 / scale), so that CPU and GPU agree to the bit.

    Args:
        x: any shape, float32.
        spec: what the codes stand for.

    Returns:
        Codes, whole numbers in the shape and type of `x`.

    >>> quantize(torch.tensor([-1.0, 0.26, 0.5, 99.0]), QuantSpec(scale=0.5))
    tensor([  0.,   1.,   1., 127.])
    """
    return torch.round(x * (1.0 / spec.scale)).add_(spec.zero_point).clamp_(spec.qmin, spec.qmax)


def dequantize(codes: Tensor, spec: QuantSpec) -> Tensor:
    """Return the real numbers of codes: scale · (code − zero_point).

    Args:
        codes: any shape; whole numbers of any type.
        spec: what the codes stand for.

    Returns:
        float32, in the shape of `codes`.
    """
    return (codes.float() - spec.zero_point) * spec.scale
