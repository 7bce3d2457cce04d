"""A wafer as a whole: which chips its slots hold, who runs which segment, where dies lie, and what that costs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.hardware.chiplet import ChipletSlots, ChipletType
from sparseflow.hardware.layout.wafer import LayoutResult, WaferLayout
from sparseflow.hardware.loss import HwFigures
from sparseflow.hardware.mapping import (
    MappingCost,
    MappingProblem,
    Segment,
    coarse_partition,
    evaluate,
    expected_cost,
    slot_traffic,
    traffic_bytes,
)
from sparseflow.hardware.proxy import LayerSpec

__all__ = ["Design", "Predictor", "System", "Tables", "Verdict"]

_MB = 1e6
_NS = 1e-6
_MJ_PER_PJ = 1e-9
_BYTE_MM_PER_MB_M = 1e9


class Predictor(Protocol):
    """What layers cost on chips."""

    def predict_layers_batch(self, layers: Sequence[LayerSpec], chip: Any) -> Mapping[str, Tensor]:
        """Return `lat_ms`, `mem_mb` and `power_w`, each `[n]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """One wafer, decided.

    Args:
        choice: `[S]` type of each slot; the number of types is empty.
        mapping: `[K]` slot of each segment.
        pos_mm: `[S]` centres of dies.
    """

    choice: tuple[int, ...]
    mapping: tuple[int, ...]
    pos_mm: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """What each segment costs on each type of chip, as tensors that may carry gradients.

    Args:
        segments: K of them.
        lat_ms: `[K, M]`.
        energy_mj: `[K, M]`.
        weight_mb: `[K]`.
        activation_mb: `[K]`.
        traffic_bytes: `[K - 1]`.
    """

    segments: tuple[Segment, ...]
    lat_ms: Tensor
    energy_mj: Tensor
    weight_mb: Tensor
    activation_mb: Tensor
    traffic_bytes: Tensor

    def detach(self) -> "Tables":
        """Return the same figures without gradients."""
        names = ("lat_ms", "energy_mj", "weight_mb", "activation_mb", "traffic_bytes")
        return replace(self, **{name: getattr(self, name).detach() for name in names})


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verdict:
    """What a design really costs.

    Args:
        figures: numbers for L_hw.
        cost: of the mapping.
        layout: of the placement.
    """

    figures: HwFigures
    cost: MappingCost
    layout: LayoutResult


class System:
    """Slots, segments and a wafer, judged by one formula for designs and for chances.

    A transfer between slots s ≠ t waits max(latency_s, latency_t) + `wire_ns_per_mm`·distance and then takes
    bytes / min(bandwidth_s, bandwidth_t); it costs the larger energy per bit of both ends and `wire_pj_per_bit_mm` of
    the distance. A die that waits draws `idle_share` of its TDP.

    Args:
        types: the M types of chips.
        predictor: what layers cost on them.
        slots: S.
        objective: "serial" or "balanced", see `MappingProblem`.
        segment_size: blocks of the network that stay together.
        idle_share: see above; assumed.
        wire_ns_per_mm: of a repeated wire; assumed.
        wire_pj_per_bit_mm: likewise; assumed.
        layout: the wafer; by default one of 150 mm.
    """

    def __init__(
        self,
        types: Sequence[ChipletType],
        predictor: Predictor,
        *,
        slots: int,
        objective: str = "balanced",
        segment_size: int = 2,
        idle_share: float = 0.1,
        wire_ns_per_mm: float = 0.1,
        wire_pj_per_bit_mm: float = 0.1,
        layout: WaferLayout | None = None,
    ) -> None:
        self.types, self.predictor = tuple(types), predictor
        self.objective, self.segment_size, self.idle_share = objective, segment_size, idle_share
        self.wire_ns_per_mm, self.wire_pj_per_bit_mm = wire_ns_per_mm, wire_pj_per_bit_mm
        self.slots = ChipletSlots(self.types, slots=slots)
        self.layout = layout or WaferLayout(slots=slots)

    def tables(self, layers: Sequence[LayerSpec], *, only: Collection[int] | None = None) -> Tables:
        """Return what the segments of these layers cost on each type of chip; shares that are tensors get gradients.

        Args:
            layers: of the network.
            only: types that are asked for; those of others are left at 0 ms and 0 mJ. None is all.
        """
        segments = coarse_partition(layers, segment_size=self.segment_size)
        lat, energy = [], []
        for t, chip in enumerate(self.types):
            if only is not None and t not in only:
                lat.append(torch.zeros(len(segments), dtype=torch.float64))
                energy.append(lat[-1])
                continue
            found = self.predictor.predict_layers_batch(layers, chip)
            ms = found["lat_ms"].double()
            mj = ms * found["power_w"].double()
            rows = [torch.tensor(s.layer_indices, device=ms.device) for s in segments]
            lat.append(torch.stack([ms[row].sum() for row in rows]))
            energy.append(torch.stack([mj[row].sum() for row in rows]))

        def vector(values: Sequence[Any]) -> Tensor:
            if not values:
                return torch.zeros(0, dtype=torch.float64)
            return torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in values])

        return Tables(
            segments=segments,
            lat_ms=torch.stack(lat, 1),
            energy_mj=torch.stack(energy, 1),
            weight_mb=vector([s.weight_bytes for s in segments]) / _MB,
            activation_mb=vector([s.activation_bytes for s in segments]) / _MB,
            traffic_bytes=vector(traffic_bytes(segments)),
        )

    def problem(self, tables: Tables, choice: Sequence[int], pos_mm: Any, **more: Any) -> MappingProblem:
        """Return the mapping problem of chosen chips at chosen places; slots that are empty are not usable.

        Args:
            tables: of the segments.
            choice: `[S]`.
            pos_mm: `[S, 2]`.
            more: further fields of `MappingProblem`.

        Raises:
            ConfigError: all slots are empty.
        """
        alpha = self.one_hot(choice)
        fields = {name: value.numpy() for name, value in self._operands(tables.detach(), alpha, pos_mm).items()}
        usable = [c < len(self.types) for c in choice]
        limits = [self.types[c].mem_mb if ok else 0.0 for c, ok in zip(choice, usable, strict=True)]
        return MappingProblem(**{"mode": self.objective, "usable": usable, "limit_mb": limits, **fields, **more})

    def judge(self, tables: Tables, design: Design) -> Verdict:
        """Return what a design costs.

        Raises:
            UnsupportedError: a segment lies on an empty slot, or a slot's memory does not hold what is on it.
        """
        problem = self.problem(tables, design.choice, design.pos_mm)
        cost = evaluate(problem, design.mapping)
        if cost.violations:
            raise UnsupportedError(f"{cost.violations} slots are empty or too small for what is mapped to them")
        return Verdict(**self._verdict(problem, cost, design))

    def relaxed(self, tables: Tables, alpha: Tensor, design: Design, *, sharpness: float | None = 10.0) -> HwFigures:
        """Return the figures of a design whose chips are chances, with gradients to α, to tables and to places.

        For chips that are certain these are the figures of `judge`, the period's maximum apart (see `expected_cost`).

        Args:
            tables: with or without gradients.
            alpha: `[S, M + 1]`.
            design: gives mapping and places; the layout's own positions are used where they are being learned.
            sharpness: see `expected_cost`.
        """
        alpha = alpha.double()
        pos = torch.tensor(design.pos_mm, dtype=torch.float64)
        tensors = self._operands(tables, alpha, pos)
        problem = self.problem(tables, design.choice, design.pos_mm)
        soft = expected_cost(problem, np.array(design.mapping), tensors, sharpness=sharpness)
        specs = self.slots.eff_specs(alpha)
        time = soft.total_latency_ms if self.objective == "serial" else soft.period_ms
        idle = self.idle_share * (specs["tdp_w"] * torch.relu(time - soft.per_slot_ms)).sum()
        return HwFigures(
            latency_ms=time,
            energy_mj=soft.energy_mj + idle,
            memory_mb=soft.per_slot_mb.amax(),
            comm_ms=soft.comm_ms,
            area_mm2=specs["area_mm2"].sum(),
            chips=self.slots.chip_loss(alpha),
        )

    def sizes(self, choice: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return widths and heights of the dies in mm, 0 where a slot is empty."""
        specs = self.slots.eff_specs(self.one_hot(choice))
        return specs["width_mm"], specs["height_mm"]

    def demand(self, tables: Tables, design: Design) -> tuple[Tensor, Tensor]:
        """Return what a placement serves: bytes of a sample between slots `[S, S]`, and watts of each slot `[S]`."""
        problem = self.problem(tables, design.choice, design.pos_mm)
        cost = evaluate(problem, design.mapping)
        return torch.from_numpy(slot_traffic(problem, design.mapping)), torch.from_numpy(self._watts(cost, design))

    def _watts(self, cost: MappingCost, design: Design) -> np.ndarray[Any, np.dtype[np.float64]]:
        tdp = np.array([self.types[c].tdp_w if c < len(self.types) else 0.0 for c in design.choice])
        waiting = np.maximum(cost.period_ms - cost.per_slot_ms, 0.0)
        watts: np.ndarray[Any, np.dtype[np.float64]] = (cost.per_slot_mj + self.idle_share * tdp * waiting) / (
            cost.period_ms
        )
        return watts

    def _verdict(self, problem: MappingProblem, cost: MappingCost, design: Design) -> dict[str, Any]:
        watts = self._watts(cost, design)
        traffic = torch.from_numpy(slot_traffic(problem, design.mapping))
        widths, heights = self.sizes(design.choice)
        with torch.no_grad():
            self.layout.pos_mm.copy_(torch.tensor(design.pos_mm))
            found = self.layout.result(widths, heights, traffic, torch.from_numpy(watts))
            terms = self.layout.loss(widths, heights, traffic, torch.from_numpy(watts))
        layout = {name: float(value) for name, value in terms.items()}
        layout["comm"] = found.comm_byte_mm / _BYTE_MM_PER_MB_M
        area = sum(self.types[c].area_mm2 for c in design.choice if c < len(self.types))
        figures = HwFigures(
            latency_ms=cost.period_ms,
            energy_mj=float(watts.sum()) * cost.period_ms + cost.energy_mj - float(cost.per_slot_mj.sum()),
            memory_mb=float(cost.per_slot_mb.max()),
            comm_ms=cost.comm_ms,
            area_mm2=area,
            chips=float(sum(c < len(self.types) for c in design.choice)),
            layout=layout,
        )
        return {"figures": figures, "cost": cost, "layout": found}

    def _operands(self, tables: Tables, alpha: Tensor, pos_mm: Any) -> dict[str, Tensor]:
        """Return the fields of `MappingProblem` that depend on chips and places, for chances α."""
        # One device: what chips cost is small, and the solvers run on the processor.
        lat = self.slots.expected(tables.lat_ms.cpu(), alpha)
        energy = self.slots.expected(tables.energy_mj.cpu(), alpha)
        column = {
            "wait": [t.link_latency_ns for t in self.types],
            "slow": [1.0 / t.link_bw_bytes_per_s for t in self.types],
            "bit": [t.link_pj_per_bit for t in self.types],
        }
        link = {
            name: self.slots.expected(torch.tensor([values], dtype=torch.float64), alpha)[0]
            for name, values in column.items()
        }
        pair = {name: torch.maximum(v[:, None], v[None, :]) for name, v in link.items()}
        pos = torch.as_tensor(pos_mm, dtype=torch.float64)
        away = (pos[:, None] - pos[None, :] + torch.eye(len(pos))[..., None] * 1e-9).norm(dim=-1)
        return {
            "lat_ms": lat,
            "power_w": energy / lat,
            "weight_mb": tables.weight_mb.cpu(),
            "activation_mb": tables.activation_mb.cpu(),
            "traffic_bytes": tables.traffic_bytes.cpu(),
            "hop_ms": (pair["wait"] + self.wire_ns_per_mm * away) * _NS,
            "link_bytes_per_s": 1.0 / pair["slow"],
            "link_mj_per_byte": 8 * _MJ_PER_PJ * (pair["bit"] + self.wire_pj_per_bit_mm * away),
        }

    def one_hot(self, choice: Sequence[int]) -> Tensor:
        """Return chances that are certain, `[S, M + 1]`."""
        return torch.nn.functional.one_hot(torch.tensor(choice), len(self.types) + 1).double()
