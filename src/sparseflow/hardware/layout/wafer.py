"""A wafer that learns where its dies lie."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout.descend import DescendConfig, descend
from sparseflow.hardware.layout.grid import grid_mm
from sparseflow.hardware.layout.legal import is_legal, legalise_mm
from sparseflow.hardware.layout.problem import LayoutProblem
from sparseflow.hardware.layout.rectangles import comm_byte_mm, corner_excess_mm, outside_mm2, overlap_mm2
from sparseflow.hardware.layout.thermal import Plate

__all__ = ["LayoutResult", "WaferLayout"]

Array = npt.NDArray[np.float64]

_PITCH_MM = 25.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayoutResult:
    """A layout and what it costs.

    Args:
        pos_mm: `[S, 2]`, centres.
        comm_byte_mm: Σ traffic·distance.
        overlap_mm2: area by which dies overlap.
        outside: dies with a corner beyond the wafer's margin.
        t_max_c: highest temperature of a die.
        cost: see `LayoutProblem.cost`.
    """

    pos_mm: Array
    comm_byte_mm: float
    overlap_mm2: float
    outside: int
    t_max_c: float
    cost: float

    @property
    def legal(self) -> bool:
        """Whether no dies overlap and all corners lie inside."""
        return self.overlap_mm2 == 0 and self.outside == 0


class WaferLayout(nn.Module):
    """Places S rectangular dies on a disc.

    Starts on a legal grid, since dies that all lie at one point have no
    gradient that parts them.

    Args:
        slots: S.
        radius_mm: radius of the wafer.
        margin_mm: rim that no corner may enter.
        gap_mm: least distance of two dies.
        t_limit_c: temperature that no die should exceed.
        heat_weight: see `LayoutProblem`.
        plate: what cools the dies; the default has the wafer's radius.
        optimize_layout: False keeps the grid; then all terms of `loss` are 0.

    Attributes:
        pos_mm: `[S, 2]`, centres, a parameter.

    Raises:
        ConfigError: no slot, or a margin that leaves no wafer.
    """

    pos_mm: Tensor

    def __init__(
        self,
        *,
        slots: int = 16,
        radius_mm: float = 150.0,
        margin_mm: float = 3.0,
        gap_mm: float = 0.5,
        t_limit_c: float = 85.0,
        heat_weight: float = 0.01,
        plate: Plate | None = None,
        optimize_layout: bool = True,
    ) -> None:
        super().__init__()
        if slots < 1 or not 0 <= margin_mm < radius_mm or gap_mm < 0:
            raise ConfigError(
                f"{slots} slots on {radius_mm} mm with margin {margin_mm} and gap {gap_mm}: no such wafer"
            )
        self.radius_mm, self.margin_mm, self.gap_mm = radius_mm, margin_mm, gap_mm
        self.t_limit_c, self.heat_weight = t_limit_c, heat_weight
        self.plate = plate or Plate(radius_mm=radius_mm)
        self.optimize_layout = optimize_layout
        inner = radius_mm - margin_mm
        pitch = min(_PITCH_MM, inner / math.sqrt(slots))
        start = grid_mm(np.zeros(slots), np.zeros(slots), radius_mm=inner, gap_mm=pitch)
        self.pos_mm = nn.Parameter(torch.as_tensor(start), requires_grad=optimize_layout)

    def grid(self, widths_mm: Tensor, heights_mm: Tensor) -> Tensor:
        """Return the row-major grid of dies, `[S, 2]`; empty slots keep their cells."""
        widths, heights = _array(widths_mm), _array(heights_mm)
        inner = self.radius_mm - self.margin_mm
        return torch.as_tensor(grid_mm(widths, heights, radius_mm=inner, gap_mm=self.gap_mm))

    def loss(self, widths_mm: Tensor, heights_mm: Tensor, traffic_bytes: Tensor, power_w: Tensor) -> dict[str, Tensor]:
        """Return the terms of the layout's loss, with gradients to positions and operands.

        boundary Σ relu(‖corner‖ + margin − R)² and overlap Σ ox·oy in mm²,
        comm Σ traffic·distance in byte·mm, thermal relu(T_max − limit)² in K².
        Sizes may be those of expected dies. All are 0 where the layout is fixed.

        Args:
            widths_mm: `[S]`.
            heights_mm: `[S]`.
            traffic_bytes: `[S, S]`.
            power_w: `[S]`.
        """
        if not self.optimize_layout:
            zero = self.pos_mm.new_zeros(())
            return {"boundary": zero, "overlap": zero, "comm": zero, "thermal": zero}
        pos = self.pos_mm
        widths, heights, power = (x.to(pos) for x in (widths_mm, heights_mm, power_w))
        t_max = self.plate.t_max_c(pos, widths, heights, power, side=3)
        return {
            "boundary": outside_mm2(pos, widths, heights, self.radius_mm, margin_mm=self.margin_mm),
            "overlap": overlap_mm2(pos, widths, heights, gap_mm=self.gap_mm),
            "comm": comm_byte_mm(pos, traffic_bytes.to(pos)),
            "thermal": torch.relu(t_max - self.t_limit_c).square(),
        }

    def problem(self, widths_mm: Tensor, heights_mm: Tensor, traffic_bytes: Tensor, power_w: Tensor) -> LayoutProblem:
        """Return what is to be placed, as numbers."""
        return LayoutProblem(
            widths_mm=_array(widths_mm),
            heights_mm=_array(heights_mm),
            traffic_bytes=_array(traffic_bytes),
            power_w=_array(power_w),
            radius_mm=self.radius_mm - self.margin_mm,
            gap_mm=self.gap_mm,
            t_limit_c=self.t_limit_c,
            heat_weight=self.heat_weight,
            plate=self.plate,
        )

    def legalise(self, widths_mm: Tensor, heights_mm: Tensor) -> None:
        """Move dies to the nearest legal layout, see `legalise_mm`.

        Raises:
            UnsupportedError: the dies do not fit.
        """
        inner = self.radius_mm - self.margin_mm
        here, widths, heights = _array(self.pos_mm), _array(widths_mm), _array(heights_mm)
        self._set(legalise_mm(here, widths, heights, radius_mm=inner, gap_mm=self.gap_mm))

    def optimize(
        self,
        widths_mm: Tensor,
        heights_mm: Tensor,
        traffic_bytes: Tensor,
        power_w: Tensor,
        *,
        config: DescendConfig | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> LayoutResult:
        """Find a legal layout by descent, never worse than where dies are now, or than the grid if that is not legal.

        Args:
            widths_mm: `[S]`; 0 where a slot is empty.
            heights_mm: `[S]`.
            traffic_bytes: `[S, S]`.
            power_w: `[S]`.
            config: how long to search; the same seed gives the same layout.
            progress: called with the share that is done.

        Returns:
            The layout, which is always legal and also in `pos_mm`.

        Raises:
            ConfigError: operands that do not agree.
            UnsupportedError: the dies do not fit.
        """
        problem = self.problem(widths_mm, heights_mm, traffic_bytes, power_w)
        here, there = self._legal_start(problem), problem.there
        if self.optimize_layout and there.any():
            here[there] = descend(problem.present(), here[there], config or DescendConfig(), progress=progress)
        self._set(here)
        return self.result(widths_mm, heights_mm, traffic_bytes, power_w)

    def result(self, widths_mm: Tensor, heights_mm: Tensor, traffic_bytes: Tensor, power_w: Tensor) -> LayoutResult:
        """Return what the layout costs where the dies are now."""
        problem = self.problem(widths_mm, heights_mm, traffic_bytes, power_w)
        pos = self.pos_mm.detach()
        there = torch.as_tensor(problem.there)
        sizes = problem.tensor("widths_mm"), problem.tensor("heights_mm")
        excess = corner_excess_mm(pos, *sizes, problem.radius_mm)[there]
        return LayoutResult(
            pos_mm=_array(pos),
            comm_byte_mm=float(problem.comm_byte_mm(_array(pos))),
            overlap_mm2=float(overlap_mm2(pos, *sizes)),
            outside=int((excess > 1e-9).sum()),
            t_max_c=problem.t_max_c(_array(pos)),
            cost=problem.cost(_array(pos)),
        )

    def _legal_start(self, problem: LayoutProblem) -> Array:
        wafer = {"radius_mm": problem.radius_mm, "gap_mm": problem.gap_mm}
        here = _array(self.pos_mm)
        if self.optimize_layout and is_legal(here, problem.widths_mm, problem.heights_mm, **wafer):
            return here
        try:
            return grid_mm(problem.widths_mm, problem.heights_mm, **wafer)
        except ConfigError:
            return legalise_mm(here, problem.widths_mm, problem.heights_mm, **wafer)

    def _set(self, pos: Array) -> None:
        with torch.no_grad():
            self.pos_mm.copy_(torch.as_tensor(pos))


def _array(values: Tensor) -> Array:
    return values.detach().to("cpu", torch.float64).numpy().copy()
