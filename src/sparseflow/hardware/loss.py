"""The objective of a design, L_hw: one formula for the numbers that judge it and the tensors that it learns by."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sparseflow.errors import ConfigError

__all__ = ["FORMS", "HwFigures", "HwWeights", "compute_hw_loss", "hw_schedule"]

Scalar: TypeAlias = float | Tensor
FORMS = ("log", "log_ratio", "spec")
_LAYOUT = ("boundary", "overlap", "comm", "thermal")


@dataclass(frozen=True, slots=True, kw_only=True)
class HwFigures:
    """What a design costs; every figure is a number or a tensor without dimensions.

    Args:
        latency_ms: of one sample through all segments, or the period of a balanced pipeline.
        energy_mj: of one sample, with its transfers.
        memory_mb: the fullest slot's.
        comm_ms: transfers of one sample between slots.
        area_mm2: of all dies.
        chips: dies that are not empty, expected or counted.
        layout: terms of the placement by "boundary" and "overlap" (mm²), "comm" (MB·m) and "thermal" (K²); those that
            lack are 0.
    """

    latency_ms: Scalar
    energy_mj: Scalar
    memory_mb: Scalar
    comm_ms: Scalar = 0.0
    area_mm2: Scalar = 0.0
    chips: Scalar = 0.0
    layout: Mapping[str, Scalar] = field(default_factory=dict)

    @property
    def edp(self) -> Scalar:
        """Energy-delay product, mJ·ms."""
        return self.energy_mj * self.latency_ms

    def to_dict(self) -> dict[str, float]:
        """Return all figures as numbers."""
        names = ("latency_ms", "energy_mj", "memory_mb", "comm_ms", "area_mm2", "chips", "edp")
        body = {name: float(getattr(self, name)) for name in names}
        return body | {f"layout_{name}": float(self.layout.get(name, 0.0)) for name in _LAYOUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class HwWeights:
    """How the terms of L_hw are weighed.

    Args:
        form: "log", w_T·log(T/T₀) + w_E·log(E/E₀) + w_M·M/M₀ + w_C·C/T₀ with a reference design's figures, so that
            equal weights of T and E minimise the energy-delay product; "log_ratio", the same terms as
            min(clip, relu(log(x/(.9·x₀)))), memory as relu(M/M₀ − .9), which rest once .9 of the reference is reached;
            "spec", the literal sum in ms, J, MB and mm², whose units weigh for themselves.
        latency: w_T or λ_T. None is 1 in "log", .2 in "log_ratio" and 1e-3 in "spec".
        energy: w_E likewise; 1, .2, 1e-4 per joule.
        memory: w_M; .05, .4, 1e-4 per MB.
        comm: w_C; .05, .2, and 0 in "spec", whose latency holds it.
        area: of relu(Σ area / limit − 1)² (of relu(Σ area − limit)² in "spec"); 10, 1, 1e-6.
        area_limit_mm2: sum of the dies' areas that is free.
        chip: λ_chip, of each die; .01, 1e-3, 1e-3.
        boundary: of the placement's term; 1e-3.
        overlap: likewise; 1e-3.
        layout_comm: likewise; .1, .1, and 1e-6 in "spec".
        thermal: likewise; 1e-4.
        clip: largest value of a term in "log_ratio".

    Raises:
        ConfigError: unknown form, or a weight that is negative.
    """

    form: str = "log"
    latency: float | None = None
    energy: float | None = None
    memory: float | None = None
    comm: float | None = None
    area: float | None = None
    area_limit_mm2: float = 9600.0
    chip: float | None = None
    boundary: float = 1e-3
    overlap: float = 1e-3
    layout_comm: float | None = None
    thermal: float = 1e-4
    clip: float = 10.0

    def __post_init__(self) -> None:
        """Fill in the weights of the form, and check all."""
        if self.form not in FORMS:
            raise ConfigError(f"form is {self.form!r}; expected one of {', '.join(FORMS)}")
        for name, value in _DEFAULTS[self.form].items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        for name in (*_DEFAULTS["log"], "area_limit_mm2", "boundary", "overlap", "thermal", "clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")


_DEFAULTS = {
    "log": {
        "latency": 1.0,
        "energy": 1.0,
        "memory": 0.05,
        "comm": 0.05,
        "area": 10.0,
        "chip": 0.01,
        "layout_comm": 0.1,
    },
    "log_ratio": {
        "latency": 0.2,
        "energy": 0.2,
        "memory": 0.4,
        "comm": 0.2,
        "area": 1.0,
        "chip": 1e-3,
        "layout_comm": 0.1,
    },
    "spec": {
        "latency": 1e-3,
        "energy": 1e-4,
        "memory": 1e-4,
        "comm": 0.0,
        "area": 1e-6,
        "chip": 1e-3,
        "layout_comm": 1e-6,
    },
}


def compute_hw_loss(figures: HwFigures, weights: HwWeights, reference: HwFigures | None = None) -> dict[str, Scalar]:
    """Return the terms of L_hw by name, already weighed, and their sum as "total".

    Args:
        figures: of the design.
        weights: form and weights.
        reference: figures of the design that ratios are taken of; only "spec" needs none.

    Returns:
        Terms "latency", "energy", "memory", "comm", "area", "chip", "layout" and "total": numbers where all figures
        are, else tensors that carry their gradients.

    Raises:
        ConfigError: a form of ratios without a reference, or one whose latency, energy or memory is not above 0.

    >>> base = HwFigures(latency_ms=2.0, energy_mj=4.0, memory_mb=8.0)
    >>> better = HwFigures(latency_ms=1.0, energy_mj=4.0, memory_mb=8.0)
    >>> round(compute_hw_loss(better, HwWeights(memory=0.0), base)["total"], 4)
    -0.6931
    """
    w: Any = weights
    f = figures
    terms: dict[str, Any]
    if w.form == "spec":
        terms = {
            "latency": w.latency * f.latency_ms,
            "energy": w.energy * f.energy_mj / 1e3,
            "memory": w.memory * f.memory_mb,
            "comm": w.comm * f.comm_ms,
            "area": w.area * _relu(f.area_mm2 - w.area_limit_mm2) ** 2,
        }
    else:
        base = _checked(reference)
        excess = _relu(f.area_mm2 / w.area_limit_mm2 - 1) if w.area_limit_mm2 else f.area_mm2
        if w.form == "log":
            terms = {
                "latency": w.latency * _log(f.latency_ms / base.latency_ms),
                "energy": w.energy * _log(f.energy_mj / base.energy_mj),
                "memory": w.memory * f.memory_mb / base.memory_mb,
                # Its own reference may be 0: a design on one die sends nothing.
                "comm": w.comm * f.comm_ms / base.latency_ms,
            }
        else:
            comm0 = base.comm_ms if float(base.comm_ms) > 0 else base.latency_ms
            terms = {
                "latency": w.latency * _hinge(f.latency_ms, base.latency_ms, w.clip),
                "energy": w.energy * _hinge(f.energy_mj, base.energy_mj, w.clip),
                "memory": w.memory * _least(_relu(f.memory_mb / base.memory_mb - 0.9), w.clip),
                "comm": w.comm * _hinge(f.comm_ms, comm0, w.clip),
            }
        terms["area"] = w.area * excess**2
    terms["chip"] = w.chip * f.chips
    by_name = {"boundary": w.boundary, "overlap": w.overlap, "comm": w.layout_comm, "thermal": w.thermal}
    terms["layout"] = sum((by_name[name] * f.layout.get(name, 0.0) for name in _LAYOUT), 0.0)
    terms["total"] = sum(terms.values())
    return terms


def hw_schedule(done: float, *, warmup: float = 0.1, ramp: float = 0.3) -> float:
    """Return the factor of λ_hw once the share `done` of a run lies behind: 0, then a line to 1, then 1.

    Args:
        done: 0 to 1.
        warmup: share of the run with 0.
        ramp: share of the run behind it over which the factor grows.

    Raises:
        ConfigError: the shares are negative or more than the run.

    >>> [hw_schedule(d, warmup=0.25, ramp=0.5) for d in (0.1, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 1.0]
    """
    if min(warmup, ramp) < 0 or warmup + ramp > 1:
        raise ConfigError(f"warmup is {warmup} and ramp {ramp}; expected shares of a run that make at most 1")
    if done < warmup:
        return 0.0
    return 1.0 if ramp == 0 else min(1.0, (done - warmup) / ramp)


def _checked(reference: HwFigures | None) -> HwFigures:
    if reference is None:
        raise ConfigError("ratios need the figures of a reference design; give one, or take form 'spec'")
    for name in ("latency_ms", "energy_mj", "memory_mb"):
        if not float(getattr(reference, name)) > 0:
            raise ConfigError(f"{name} of the reference design is {getattr(reference, name)}; expected more than 0")
    return reference


def _log(x: Scalar) -> Scalar:
    return x.log() if isinstance(x, Tensor) else math.log(x)


def _relu(x: Scalar) -> Scalar:
    return torch.relu(x) if isinstance(x, Tensor) else max(x, 0.0)


def _least(x: Scalar, most: float) -> Scalar:
    return x.clamp(max=most) if isinstance(x, Tensor) else min(x, most)


def _hinge(x: Scalar, base: Scalar, most: float) -> Scalar:
    # relu(log(r)) = log(max(r, 1)), whose gradient is finite at r = 0 too.
    ratio = x / (0.9 * base)
    return _least(_log(ratio.clamp(min=1.0) if isinstance(ratio, Tensor) else max(ratio, 1.0)), most)
