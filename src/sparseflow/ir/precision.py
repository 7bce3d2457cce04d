"""Precision: one description of an arithmetic for Python, C++ and hardware."""

from dataclasses import dataclass

from sparseflow.errors import ConfigError

__all__ = ["BINARY", "FLOAT16", "FLOAT32", "INT8", "Precision"]

_KINDS = ("float", "bfloat", "int", "uint", "binary", "count")
_ROUNDINGS = ("nearest_even", "half_away", "floor", "truncate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """How the numbers of one operand are stored and rounded.

    Args:
        kind: "float", "bfloat", "int", "uint", "binary" (spikes, {0, 1}) or
            "count" (small non-negative integers, as sums of spikes).
        bits: bits a stored element.
        scale: real value of one integer step, or None for a float or spikes.
        rounding: rule for values between two representable ones.
        saturation: clamp at the ends of the range rather than wrap.

    Raises:
        ConfigError: unknown kind or rounding, or bits outside 1..64.

    >>> Precision(kind="int", bits=8, scale=0.5).name
    'int8'
    """

    kind: str
    bits: int
    scale: float | None = None
    rounding: str = "nearest_even"
    saturation: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in _KINDS:
            raise ConfigError(f"Precision.kind is {self.kind!r}; expected one of {', '.join(_KINDS)}")
        if not 1 <= self.bits <= 64:
            raise ConfigError(f"Precision.bits is {self.bits}; expected 1 to 64")
        if self.rounding not in _ROUNDINGS:
            raise ConfigError(f"Precision.rounding is {self.rounding!r}; expected one of {', '.join(_ROUNDINGS)}")
        if self.scale is not None and not self.scale > 0:
            raise ConfigError(f"Precision.scale is {self.scale}; expected a positive number")

    @property
    def name(self) -> str:
        """Short name, as "float32", "int8" or "binary"."""
        return "binary" if self.kind == "binary" else f"{self.kind}{self.bits}"

    @property
    def bytes(self) -> float:
        """Bytes an element, packed (a spike is 1/8)."""
        return self.bits / 8


FLOAT32 = Precision(kind="float", bits=32)
FLOAT16 = Precision(kind="float", bits=16)
INT8 = Precision(kind="int", bits=8)
BINARY = Precision(kind="binary", bits=1)
