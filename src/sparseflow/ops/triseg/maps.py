"""Segment maps as checked settings, and the tables of 256 codes that they compile to."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops.triseg.reference import segment

__all__ = ["CODES", "MODES", "NAMES", "SegmentMap", "tables"]

CODES = 256
NAMES = ("t1", "v1", "t2", "v2", "tmax")
MODES = ("pass", "clip", "saturate")
_ORDER = "0 <= t1 <= t2 <= tmax <= 255 and 0 <= v1 <= v2 <= tmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentMap:
    """A step function on codes with S segments; three of them, the first with value 0, are a tri-segment.

    f(0) = 0; f(q) = values[i] for thresholds[i-1] < q <= thresholds[i] (thresholds[-1] is 0 for the first);
    beyond the last threshold f(q) = q ("pass"), the last value ("clip") or that threshold ("saturate"). It never
    decreases, so it commutes with max-pooling. A segment between equal thresholds is empty.

    Args:
        thresholds: last code of each segment.
        values: what the codes of each segment become.
        overflow: "pass", "clip" or "saturate".

    Raises:
        ConfigError: no segment, another number of values, something else than whole numbers, an order
            that would let the function decrease, a value above the last threshold, or no such overflow.

    >>> SegmentMap(thresholds=(7, 21, 35), values=(0, 14, 28)) == SegmentMap.tri(7, 14, 21, 28, 35)
    True
    """

    thresholds: tuple[int, ...]
    values: tuple[int, ...]
    overflow: str = "pass"

    def __post_init__(self) -> None:
        """Check the fields."""
        check_mode("SegmentMap.overflow", self.overflow)
        if not self.thresholds or len(self.thresholds) != len(self.values):
            raise ConfigError(
                f"SegmentMap has {len(self.thresholds)} thresholds and {len(self.values)} values; "
                "expected one value a threshold, and at least one"
            )
        for name in ("thresholds", "values"):
            codes = getattr(self, name)
            if not all(type(code) is int and 0 <= code < CODES for code in codes):
                raise ConfigError(f"SegmentMap.{name} is {codes}; expected whole numbers of 0 to 255")
            if list(codes) != sorted(codes):
                raise ConfigError(f"SegmentMap.{name} is {codes}; expected an order that never decreases")
        if self.values[-1] > self.thresholds[-1]:
            raise ConfigError(
                f"SegmentMap: the last value {self.values[-1]} is above the last threshold {self.thresholds[-1]}, "
                "so that the function would decrease behind it; lower the value or raise the threshold"
            )

    @classmethod
    def tri(cls, t1: int, v1: int, t2: int, v2: int, tmax: int, overflow: str = "pass") -> "SegmentMap":
        """Return the tri-segment 0, v1, v2 up to t1, t2, tmax."""
        return cls(thresholds=(t1, t2, tmax), values=(0, v1, v2), overflow=overflow)

    def table(self) -> Tensor:
        """Return f(0) to f(255), uint8 `[256]`.

        >>> SegmentMap(thresholds=(2,), values=(1,)).table()[:5]
        tensor([0, 1, 1, 3, 4], dtype=torch.uint8)
        """
        codes = [segment(q, self.thresholds, self.values, self.overflow) for q in range(CODES)]
        return torch.tensor(codes, dtype=torch.uint8)


def tables(params: Tensor | Sequence[int], mode: str = "pass") -> Tensor:
    """Return the tables of tri-segments.

    Args:
        params: `[..., 5]` whole numbers t1, v1, t2, v2, tmax, as `[5]`, `[L, 5]` or `[K, L, 5]`.
        mode: "pass" leaves codes beyond tmax, "clip" gives them v2, "saturate" tmax.

    Returns:
        uint8 `[..., 256]` on the device of `params`, the value of each code.

    Raises:
        ConfigError: another shape or type, codes out of order (says which row), or no such mode.

    >>> tables((1, 2, 3, 4, 5))[:8]
    tensor([0, 0, 2, 2, 4, 4, 6, 7], dtype=torch.uint8)
    """
    check_mode("mode", mode)
    t1, v1, t2, v2, tmax = _checked(params).unsqueeze(-1).unbind(-2)
    q = torch.arange(CODES, device=t1.device)
    out = torch.where(q <= tmax, v2, {"pass": q, "clip": v2, "saturate": tmax}[mode])
    out = torch.where(q <= t2, v1, out)
    return torch.where(q <= t1, 0, out).to(torch.uint8)


def check_mode(what: str, mode: str) -> None:
    """Refuse a mode that is none."""
    if mode not in MODES:
        raise ConfigError(f"{what} is {mode!r}; expected one of {', '.join(MODES)}")


def _checked(params: Tensor | Sequence[int]) -> Tensor:
    p = torch.as_tensor(params)
    if p.dtype == torch.bool or p.is_floating_point() or p.is_complex() or p.ndim < 1 or p.shape[-1] != 5:
        raise ConfigError(
            f"tri-segment codes are {p.dtype} {tuple(p.shape)}; expected whole numbers [..., 5]: {', '.join(NAMES)}"
        )
    p = p.to(torch.int64)
    t1, v1, t2, v2, tmax = p.unbind(-1)
    good = (t1 >= 0) & (t1 <= t2) & (t2 <= tmax) & (tmax < CODES) & (v1 >= 0) & (v1 <= v2) & (v2 <= tmax)
    if not bool(good.all()):
        row = tuple(torch.nonzero(~good)[0].tolist())
        codes = ", ".join(f"{name} {code}" for name, code in zip(NAMES, p[row].tolist(), strict=True))
        where = f" of row {', '.join(map(str, row))}" if row else ""
        raise ConfigError(f"tri-segment codes{where} are out of order: {codes}; expected {_ORDER}")
    return p
