"""Report: what was done to each layer of a model, and what was refused and why."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.ir.plan import Plan

__all__ = ["LayerReport", "Refusal", "Report"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One kernel, layer or model that was not taken.

    Args:
        layer: dotted layer name, or "" for the whole model.
        what: what was refused, as a kernel name or "capture".
        reason: why, in one sentence.
    """

    layer: str
    what: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerReport:
    """What happened to one layer.

    Args:
        name: dotted layer name.
        op: operator stem.
        source: name of the spiking layer in front of it, or "".
        shape: input shape.
        density: measured fraction of non-zero inputs.
        kernel: kernel that runs now; "dense" if left as it was.
        dense_s: measured time of the dense layer, or None.
        kernel_s: measured time of the chosen kernel, or None.
        predicted_s: cost model's time of the chosen kernel, or None.
        timings_s: measured time of every candidate kernel by name.
        crossover: share of spikes above which the kernel hands over to another one, counted on the device at
            every call; None for a kernel that does not.
    """

    name: str
    op: str
    source: str = ""
    shape: tuple[int, ...] = ()
    density: float | None = None
    kernel: str = "dense"
    dense_s: float | None = None
    kernel_s: float | None = None
    predicted_s: float | None = None
    timings_s: dict[str, float] = field(default_factory=dict)
    crossover: float | None = None

    @property
    def speedup(self) -> float | None:
        """Dense time over the chosen kernel's time."""
        if self.dense_s is None or not self.kernel_s:
            return None
        return self.dense_s / self.kernel_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Outcome of applying a plan to a model.

    Args:
        model: name of the model.
        target: name of the target.
        captured_by: how the edges were obtained, or "" if not at all.
        layers: one row a layer that was looked at.
        refusals: everything that was not taken, with reasons.
        fallbacks: automatic fallbacks that were made, in words.
        plan: the plan that was applied.
        dense_s: measured time of the model as it came.
        optimized_s: measured time of the returned model.
        parity: figures of the comparison with the original, by name.
        precision: what the result was allowed to round, "fp16", "exact" or "int8"; "" where nothing was asked.
    """

    model: str
    target: str
    captured_by: str = ""
    layers: tuple[LayerReport, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    fallbacks: tuple[str, ...] = ()
    plan: Plan | None = None
    dense_s: float | None = None
    optimized_s: float | None = None
    parity: dict[str, float] = field(default_factory=dict)
    precision: str = ""

    @property
    def speedup(self) -> float | None:
        """Time of the original over time of the returned model."""
        if self.dense_s is None or not self.optimized_s:
            return None
        return self.dense_s / self.optimized_s

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        body: dict[str, Any] = {"schema": SCHEMA, "speedup": self.speedup}
        for name in ("model", "target", "captured_by", "dense_s", "optimized_s", "precision"):
            body[name] = getattr(self, name)
        body["parity"] = dict(self.parity)
        body["layers"] = [{**asdict(x), "speedup": x.speedup} for x in self.layers]
        body["refusals"] = [asdict(x) for x in self.refusals]
        body["fallbacks"] = list(self.fallbacks)
        body["plan"] = None if self.plan is None else json.loads(self.plan.to_json())
        return body
