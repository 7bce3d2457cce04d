"""The record of a GPU bench: figures and checks by stage, written after every stage and completed by later calls."""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sparseflow.cost.measure import Timing
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.checks import Check
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["Enough", "Figure", "Record", "StageResult", "plain"]

Stages = dict[str, dict[str, Any]]


class Enough(KeyboardInterrupt):
    """An interruption after all that a check of the stage hangs on: the stage counts as run to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured time, with all that tells it from another.

    Args:
        case: the block or the network.
        provider: "sparseflow", "torch" or "spikingjelly".
        mode: how the provider ran it, as "compile max-autotune" or "cuda".
        dtype: "tf32", "fp16", "bf16" for a dense side; the precision for ours.
        layout: "nchw", "channels_last" or "words".
        shape: input shape.
        density: fraction of non-zero inputs; NaN where it is no single number.
        timing: "graph" or "calls".
        median_s: median of the rounds.
        iqr_s: distance between the quartiles.
        rounds: number of rounds.
        quoted: it comes from the second measurement, not from the choosing one.
        version: version of the provider.
        device: the device.
        more: further figures, by name.
    """

    case: str
    provider: str
    mode: str
    dtype: str
    layout: str
    shape: tuple[int, ...]
    density: float
    timing: str
    median_s: float
    iqr_s: float
    rounds: int
    quoted: bool
    version: str
    device: str
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Timing, /, *, calls: int = 1, **fields: Any) -> "Figure":
        """Make a figure of a timing that held `calls` forwards."""
        return cls(median_s=found.median_s / calls, iqr_s=found.iqr_s / calls, rounds=found.repeats, **fields)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; what is not finite becomes None."""
        return {k: plain(v) for k, v in asdict(self).items()}


@dataclass(slots=True)
class StageResult:
    """What one stage found.

    Args:
        checks: figures held against their targets.
        figures: measured times.
        rows: table rows for the guide, by heading.
        details: whatever else explains them.
        errors: what went wrong, by case.
        parts: which parts of the stage this is; empty for the whole.
    """

    checks: list[Check] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    parts: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "parts": list(self.parts),
            "checks": [c.to_dict() for c in self.checks],
            "figures": [f.to_dict() for f in self.figures],
            "rows": [plain(r) for r in self.rows],
            "details": plain(self.details),
            "errors": dict(self.errors),
        }


class Record:
    """Stages in one file.

    Args:
        path: the file, or None to keep everything in memory.
        head: what is true of the whole record: bench, device, versions. A file
            that is already there must have the same "bench", "device" and "quick".

    Raises:
        ConfigError: the file there is of another bench or device.
        DataError: the file or its folder cannot be read or written.
    """

    def __init__(self, path: str | None, head: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.head = head
        self.stages: Stages = {}
        if self.path is None:
            return
        prepare_folder(self.path.parent)
        if self.path.exists():
            self.stages = _earlier(self.path, head)

    def add(self, stage: str, result: StageResult, wall_s: float) -> None:
        """Put a stage in, in place of an earlier run of it, and write the file."""
        self.stages[stage] = {**result.to_dict(), "wall_s": wall_s, **{k: self.head.get(k) for k in ("commit", "when")}}
        self.write()

    def body(self, expected: tuple[str, ...] = ()) -> dict[str, Any]:
        """Return the whole record; a stage that is expected and absent fails a check of its own.

        Args:
            expected: stages without which the record is not complete.
        """
        checks = [check for stage in self.stages.values() for check in stage["checks"]]
        for name in expected:
            if name not in self.stages:
                missing = Check(show="all", name=f"stage {name} ran", value=0, unit="runs", rule=">=", bound=1)
                checks.append(missing.to_dict())
        ok = bool(checks) and all(c["ok"] for c in checks) and not self.head.get("quick")
        return {"checks": checks, "ok": ok, **self.head, "stages": self.stages}

    def write(self) -> None:
        """Write the file, whole or not at all."""
        if self.path is not None:
            write_atomic(self.path, json.dumps(self.body(), indent=1, allow_nan=False) + "\n")


def _earlier(path: Path, head: dict[str, Any]) -> Stages:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        stages: Stages = body["stages"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{path} is no record of this bench: {e}; move it away or name another --out") from e
    for name in ("bench", "device", "quick"):
        if body.get(name) != head.get(name):
            raise ConfigError(f"{path} has {name} {body.get(name)!r}, this run {head.get(name)!r}; name another --out")
    return stages


def plain(value: Any) -> Any:
    """Return plain data for JSON: tuples as lists, what is not finite as None.

    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
