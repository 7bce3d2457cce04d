"""Geometry of the page's charts: figures in, percentages and pixels out."""

import math
from dataclasses import dataclass
from typing import Any

from sparseflow.ir import LayerReport
from sparseflow.report.run import Run, Variant
from sparseflow.report.words import percent, ratio, seconds

__all__ = ["Point", "Scatter", "density_rows", "gain", "layer_rows", "scatter", "variant_rows"]

Row = dict[str, Any]


def variant_rows(run: Run) -> list[Row]:
    """Return one bar for every variant, fastest first, those that could not run last."""
    best, ours = run.best_dense, run.best_optimized
    top = max((_end(v) for v in run.variants), default=0.0)
    rows = []
    for v in sorted(run.variants, key=lambda v: (v.latency_s is None, v.latency_s)):
        half = v.iqr_s / 2
        rows.append(
            {
                "name": v.name,
                "kind": v.kind,
                "best": v is best or v is ours,
                "width": _share(v.latency_s or 0.0, top),
                "low": _share(max((v.latency_s or 0.0) - half, 0.0), top),
                "high": _share((v.latency_s or 0.0) + half, top),
                "label": seconds(v.latency_s) if v.latency_s is not None else "not run",
                "speed": ratio(best.latency_s / v.latency_s)
                if v.latency_s and best is not None and best.latency_s
                else "",
                "note": v.note,
                "tip": f"{v.name}: {seconds(v.latency_s)}, IQR {seconds(v.iqr_s)}, {v.repeats} runs"
                if v.latency_s is not None
                else f"{v.name}: {v.note or 'not run'}",
            }
        )
    return rows


def gain(x: LayerReport) -> float | None:
    """Return the chosen kernel's speed against the best dense time known: as it came, or our dense kernel.

    >>> gain(LayerReport(name="a", op="conv2d", dense_s=3.0, kernel_s=1.0, timings_s={"dense": 2.0}))
    2.0
    """
    known = [t for t in (x.dense_s, x.timings_s.get("dense")) if t]
    return min(known) / x.kernel_s if known and x.kernel_s else None


def layer_rows(layers: tuple[LayerReport, ...]) -> list[Row]:
    """Return a pair of bars, as it came and chosen, for every layer that was timed."""
    timed = [x for x in layers if x.dense_s is not None]
    top = max((max(x.dense_s or 0.0, x.kernel_s or 0.0) for x in timed), default=0.0)
    return [_layer_row(x, x.kernel_s if x.kernel_s is not None else x.dense_s, top) for x in timed]


def _layer_row(x: LayerReport, chosen_s: float | None, top: float) -> Row:
    dense_kernel = x.timings_s.get("dense")
    marked = dense_kernel if "original" in x.timings_s and x.kernel != "dense" else None
    tip = f"{x.name}: {seconds(x.dense_s)} as it came, {seconds(chosen_s)} by {x.kernel}"
    return {
        "name": x.name,
        "kernel": x.kernel,
        "faster": x.kernel != "dense",
        "dense": _share(x.dense_s or 0.0, top),
        "chosen": _share(chosen_s or 0.0, top),
        "mark": None if marked is None else min(_share(marked, top), 100.0),
        "tip": tip + (f", {seconds(marked)} by our dense kernel" if marked is not None else ""),
        "label": seconds(chosen_s),
        "speedup": ratio(gain(x)) if x.kernel != "dense" else "dense",
    }


def density_rows(layers: tuple[LayerReport, ...]) -> list[Row]:
    """Return one bar for every layer that spikes reach, on a scale that ends at a round share.

    Without any spikes, every layer whose input density is known has its bar.
    """
    known = [x for x in layers if x.density is not None]
    known = [x for x in known if x.source] or known
    top = max((x.density or 0.0 for x in known), default=0.0)
    end = next((e for e in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8) if top <= e), 1.0)
    return [
        {
            "name": x.name,
            "width": _share(x.density or 0.0, end),
            "label": percent(x.density),
            "spikes": bool(x.source),
            "tip": f"{x.name}: {percent(x.density, 2)} of its inputs are not zero"
            + (f", spikes from {x.source}" if x.source else ""),
        }
        for x in known
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One dot: where it lies in the picture, and its tooltip."""

    x: float
    y: float
    faster: bool
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Predicted against measured times on equal logarithmic axes.

    Args:
        points: one dot a layer.
        ticks: position along an axis (0 to 1) and label.
        error: geometric mean of the factor between the two.
    """

    points: tuple[Point, ...]
    ticks: tuple[tuple[float, str], ...]
    error: float


def scatter(layers: tuple[LayerReport, ...]) -> Scatter | None:
    """Return predicted against measured times, or None with fewer than two layers that have both."""
    both = [(x, x.predicted_s, x.kernel_s) for x in layers if x.predicted_s and x.kernel_s]
    if len(both) < 2:
        return None
    logs = [math.log10(v) for _, p, m in both for v in (p, m)]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    span = max(high - low, 1)
    points = tuple(
        Point(
            x=(math.log10(m) - low) / span,
            y=(math.log10(p) - low) / span,
            faster=x.kernel != "dense",
            tip=f"{x.name} ({x.kernel}): predicted {seconds(p)}, measured {seconds(m)}",
        )
        for x, p, m in both
    )
    error = math.exp(sum(abs(math.log(p / m)) for _, p, m in both) / len(both))
    ticks = tuple((i / span, _decade(low + i)) for i in range(span + 1))
    return Scatter(points=points, ticks=ticks, error=error)


def _decade(exponent: int) -> str:
    unit = {0: "s", 1: "ms", 2: "µs", 3: "ns"}[min(max(-(exponent // 3), 0), 3)]
    return f"{10 ** (exponent - 3 * (exponent // 3))}\u202f{unit}" if exponent < 3 else f"{10**exponent}\u202fs"


def _end(v: Variant) -> float:
    return 0.0 if v.latency_s is None else v.latency_s + v.iqr_s / 2


def _share(value: float, top: float) -> float:
    return round(100 * value / top, 2) if top > 0 else 0.0
