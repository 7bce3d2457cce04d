"""Run: everything that one measured run shows, as plain data."""

from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.ir import Report

__all__ = ["SCHEMA", "Accuracy", "Run", "Sample", "Stage", "Variant"]

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way of running the network, timed beside the others.

    Args:
        name: what ran, as "torch, compiled, channels_last" or "sparseflow".
        kind: "dense" for an unchanged network, "optimized" for ours.
        latency_s: median time of one batch, or None if it could not run.
        iqr_s: interquartile range of that time.
        repeats: timed runs behind the median.
        note: a remark, or why it could not run.
        measured: date and time of the earlier run that the time rests on, or "" if it ran in this one.

    Raises:
        ConfigError: unknown kind or a time that is not positive.
    """

    name: str
    kind: str = "dense"
    latency_s: float | None = None
    iqr_s: float = 0.0
    repeats: int = 0
    note: str = ""
    measured: str = ""

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in ("dense", "optimized"):
            raise ConfigError(f"variant {self.name!r} has kind {self.kind!r}; expected dense or optimized")
        if self.latency_s is not None and not self.latency_s > 0:
            raise ConfigError(f"variant {self.name!r} has latency_s {self.latency_s}; expected a positive number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Answers of the original and of the optimised network on the same images.

    Args:
        data_set: name of the images, as "CIFAR-10 test images".
        images: how many were classified.
        dense_correct: right answers of the original network.
        optimized_correct: right answers of the optimised network.
        changed: images whose top-1 answer differs between the two.
        changed_at: their positions in the data set.
    """

    data_set: str
    images: int
    dense_correct: int
    optimized_correct: int
    changed: int
    changed_at: tuple[int, ...] = ()

    @property
    def dense(self) -> float:
        """Share of right answers of the original network."""
        return self.dense_correct / max(self.images, 1)

    @property
    def optimized(self) -> float:
        """Share of right answers of the optimised network."""
        return self.optimized_correct / max(self.images, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One image with its answers.

    Args:
        png: the image as PNG.
        truth: its label.
        dense: answer of the original network.
        optimized: answer of the optimised network.
        confidence: softmax share of the optimised network's answer, 0 to 1.
    """

    png: bytes
    truth: str
    dense: str
    optimized: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One layer in the picture of the network.

    Args:
        name: dotted layer name.
        detail: what it computes, as "3×3, 64 → 128".
        receives: "bits" if spikes reach it, else "floats".
        density: fraction of non-zero inputs, or None.
        kernel: kernel that runs it.
        png: picture of what reaches it for one image, or None.
    """

    name: str
    detail: str = ""
    receives: str = "floats"
    density: float | None = None
    kernel: str = "dense"
    png: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run: what was optimised, how it was measured, and what came out.

    Args:
        title: heading of the page.
        report: outcome of the optimisation.
        batch: images in one timed batch.
        steps: time steps of the network.
        variants: every way of running it that was timed.
        accuracy: answers before and after, or None if nothing was classified.
        samples: images to show.
        stages: the network as a chain of layers.
        environment: machine and versions by name.
        protocol: how the figures were measured, one sentence each.
        notes: remarks for the reader, one sentence each.
        command: the command that repeats this run.
        created: date and time, ISO 8601.
    """

    title: str
    report: Report
    batch: int = 1
    steps: int = 1
    variants: tuple[Variant, ...] = ()
    accuracy: Accuracy | None = None
    samples: tuple[Sample, ...] = ()
    stages: tuple[Stage, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    created: str = ""

    @property
    def best_dense(self) -> Variant | None:
        """Fastest variant of the unchanged network."""
        return self._fastest("dense")

    @property
    def best_optimized(self) -> Variant | None:
        """Fastest variant of the optimised network."""
        return self._fastest("optimized")

    @property
    def speedup(self) -> float | None:
        """Best dense time over best optimised time; the optimisation's own figure without variants."""
        dense, ours = self.best_dense, self.best_optimized
        if dense is None or ours is None or not dense.latency_s or not ours.latency_s:
            return self.report.speedup
        return dense.latency_s / ours.latency_s

    def _fastest(self, kind: str) -> Variant | None:
        timed = [v for v in self.variants if v.kind == kind and v.latency_s is not None]
        return min(timed, key=lambda v: v.latency_s or 0.0) if timed else None

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON, without the pictures."""
        best = self.best_dense
        accuracy = None
        if self.accuracy is not None:
            accuracy = {**asdict(self.accuracy), "dense": self.accuracy.dense, "optimized": self.accuracy.optimized}
        return {
            "schema": SCHEMA,
            "title": self.title,
            "created": self.created,
            "command": self.command,
            "batch": self.batch,
            "steps": self.steps,
            "speedup": self.speedup,
            "best_dense": None if best is None else best.name,
            "variants": [asdict(v) for v in self.variants],
            "accuracy": accuracy,
            "samples": [_without_png(s) for s in self.samples],
            "stages": [_without_png(s) for s in self.stages],
            "environment": dict(self.environment),
            "protocol": list(self.protocol),
            "notes": list(self.notes),
            "report": self.report.to_dict(),
        }


def _without_png(item: Sample | Stage) -> dict[str, Any]:
    body = asdict(item)
    body.pop("png")
    return body
