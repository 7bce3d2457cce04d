"""What a layout is asked to place, and what a layout costs."""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout.rectangles import comm_byte_mm
from sparseflow.hardware.layout.thermal import Plate

__all__ = ["LayoutProblem"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayoutProblem:
    """Dies, their traffic and power, and the wafer that they go on.

    Args:
        widths_mm: `[S]`; zero where a slot is empty.
        heights_mm: `[S]`.
        traffic_bytes: `[S, S]`, from row to column.
        power_w: `[S]`.
        radius_mm: every corner lies within it: the wafer less its margin.
        gap_mm: least distance of two dies.
        t_limit_c: temperature that no die should exceed.
        heat_weight: cost of a kelvin above the limit, squared, see
            `cost`.
        plate: the plate that cools the dies.

    Raises:
        ConfigError: lengths that do not agree, or a number that is negative or
            not finite.
    """

    widths_mm: Array
    heights_mm: Array
    traffic_bytes: Array
    power_w: Array
    radius_mm: float = 147.0
    gap_mm: float = 0.5
    t_limit_c: float = 85.0
    heat_weight: float = 0.01
    plate: Plate = field(default_factory=Plate)

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        dies = len(self.widths_mm)
        shapes = {"heights_mm": (dies,), "traffic_bytes": (dies, dies), "power_w": (dies,), "widths_mm": (dies,)}
        for key, shape in shapes.items():
            value = getattr(self, key)
            if value.shape != shape:
                raise ConfigError(f"{key} has shape {value.shape}; {dies} dies need {shape}")
            if not (np.isfinite(value) & (value >= 0)).all():
                raise ConfigError(f"{key} holds a number that is negative or not finite")

    @property
    def there(self) -> npt.NDArray[np.bool_]:
        """Which slots hold a die, `[S]`."""
        return self.widths_mm * self.heights_mm > 0

    def present(self) -> "LayoutProblem":
        """Return the problem of the dies that have area."""
        there = self.there
        return replace(
            self,
            widths_mm=self.widths_mm[there],
            heights_mm=self.heights_mm[there],
            traffic_bytes=self.traffic_bytes[np.ix_(there, there)],
            power_w=self.power_w[there],
        )

    @property
    def may_be_hot(self) -> bool:
        """Whether any layout could exceed the limit: no point of the plate is hotter than the highest flux over h."""
        there = self.there
        flux = self.power_w[there] / (self.widths_mm * self.heights_mm)[there]
        peak = flux.max(initial=0.0) * 1e6 / self.plate.cooling_w_per_m2_k
        return bool(self.plate.ambient_c + peak > self.t_limit_c)

    def tensor(self, key: str) -> Tensor:
        """Return an array field as a float64 tensor."""
        return torch.as_tensor(getattr(self, key), dtype=torch.float64)

    def comm_byte_mm(self, pos_mm: Array) -> Array:
        """Return Σ traffic·distance of layouts `[..., S, 2]`."""
        return np.asarray(comm_byte_mm(torch.as_tensor(pos_mm), self.tensor("traffic_bytes")))

    def t_max_c(self, pos_mm: Array, *, side: int = 3) -> float:
        """Return the highest temperature of the dies of one layout, `[S, 2]`; the ambient if there is none."""
        if not self.there.all():
            return self.present().t_max_c(pos_mm[self.there], side=side)
        if not len(pos_mm):
            return self.plate.ambient_c
        sizes = (self.tensor(key) for key in ("widths_mm", "heights_mm", "power_w"))
        return float(self.plate.t_max_c(torch.as_tensor(pos_mm), *sizes, side=side))

    @property
    def scale_byte_mm(self) -> float:
        """What communication is measured in: all traffic over half the radius."""
        return float(self.traffic_bytes.sum()) * self.radius_mm / 2 or 1.0

    def cost(self, pos_mm: Array) -> float:
        """Return comm/scale + heat_weight·relu(T_max − limit)² of one layout, `[S, 2]`."""
        heat = max(0.0, self.t_max_c(pos_mm) - self.t_limit_c) if self.may_be_hot else 0.0
        return float(self.comm_byte_mm(pos_mm)) / self.scale_byte_mm + self.heat_weight * heat**2
