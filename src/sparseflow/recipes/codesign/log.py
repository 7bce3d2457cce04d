"""`version_c_stats.jsonl`: one line for each phase of an outer epoch, and the schema that all of them keep."""

import json
import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from sparseflow.errors import DataError
from sparseflow.ir.files import write_atomic

__all__ = ["PHASES", "StatsLine", "oscillation", "read_stats", "schema", "write_stats"]

PHASES = ("start", "A", "B", "C", "D", "end")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsLine:
    """What is known behind one phase. Lines hold no time of day: the same seed writes the same file.

    Args:
        epoch: outer epoch, from 0.
        phase: "start"; "A", weights and keeps; "B", chips; "C", mapping; "D", placement; or "end".
        accepted: whether what the phase proposed was taken.
        objective: L_hw of the design in force, hard.
        proposed: L_hw of what was proposed; None where nothing was.
        loss: training loss, mean over the phase; None without training.
        loss_task: its cross entropy.
        loss_ast: its part of the pruner.
        loss_hw: its part of the hardware.
        lambda_hw: factor of that part now.
        top1: share of the test's videos that are right; None where it was not scored.
        top5: among the five likeliest, likewise.
        sparsity_token: share of tokens left behind.
        sparsity_head: share of heads closed.
        sparsity_ch: share of hidden channels closed.
        sparsity_block: share of blocks closed.
        latency_ms: of one sample, or the period of a balanced pipeline.
        energy_mj: of one sample.
        edp: their product.
        memory_mb: of the fullest slot.
        comm_ms: transfers of one sample.
        area_mm2: of all dies.
        chips: dies.
        boundary: placement outside of the wafer.
        overlap: dies over each other, mm².
        layout_comm: traffic times distance.
        t_max_c: hottest die, °C; None where no placement was made.
        types: dies by type.
        segments: segments on each slot.
        time_share: share of the summed time on each slot.
    """

    epoch: int
    phase: str
    accepted: bool
    objective: float
    proposed: float | None = None
    loss: float | None = None
    loss_task: float | None = None
    loss_ast: float | None = None
    loss_hw: float | None = None
    lambda_hw: float = 0.0
    top1: float | None = None
    top5: float | None = None
    sparsity_token: float = 0.0
    sparsity_head: float = 0.0
    sparsity_ch: float = 0.0
    sparsity_block: float = 0.0
    latency_ms: float
    energy_mj: float
    edp: float
    memory_mb: float
    comm_ms: float
    area_mm2: float
    chips: int
    boundary: float = 0.0
    overlap: float = 0.0
    layout_comm: float = 0.0
    t_max_c: float | None = None
    types: dict[str, int] = field(default_factory=dict)
    segments: tuple[int, ...] = ()
    time_share: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.phase not in PHASES:
            raise DataError(f"phase is {self.phase!r}; expected one of {', '.join(PHASES)}")
        for name, hint in get_type_hints(type(self)).items():
            if not _fits(getattr(self, name), hint):
                raise DataError(f"{name} of a line of statistics is {getattr(self, name)!r}; expected {hint}")


def write_stats(path: str | Path, lines: Iterable[StatsLine]) -> Path:
    """Write lines as JSON, whole or not at all, and return the path."""
    text = "".join(json.dumps(asdict(line), allow_nan=False) + "\n" for line in lines)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    return write_atomic(target, text)


def read_stats(path: str | Path) -> list[StatsLine]:
    """Read what `write_stats` wrote.

    Raises:
        DataError: the file cannot be read, or a line does not keep the schema; names the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as e:
        raise DataError(f"cannot read statistics {path}: {e.strerror or e}") from e
    lines = []
    for number, row in enumerate(text.splitlines(), 1):
        try:
            body: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(row).items()}
            lines.append(StatsLine(**body))
        except (ValueError, TypeError, AttributeError) as e:
            raise DataError(f"{path}, line {number}: {e}") from e
    return lines


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a line.

    >>> schema()["properties"]["top1"]
    {'type': ['number', 'null']}
    """
    hints = get_type_hints(StatsLine)
    properties = {f.name: _json_type(hints[f.name]) for f in fields(StatsLine)}
    properties["phase"]["enum"] = list(PHASES)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A line of version_c_stats.jsonl",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def oscillation(objectives: Iterable[float], designs: Iterable[Any]) -> float:
    """Return how much a search went to and fro: .4·undo + .4·repeat + .2·min(1, std / |best|).

    Args:
        objectives: of the design in force behind each step.
        designs: that design, comparable. undo is the share of steps that return to the design before the last one,
            repeat the share that return to any earlier one that was left, std that of the second half of the values.

    >>> oscillation([3.0, 2.0, 2.0], ["a", "b", "b"]) < 0.05
    True
    >>> round(oscillation([1.0, 1.0, 1.0, 1.0], ["a", "b", "a", "b"]), 3)
    0.533
    """
    values, states = list(objectives), list(designs)
    moved = [s for i, s in enumerate(states) if i == 0 or s != states[i - 1]]
    steps = max(1, len(states) - 1)
    undo: int = sum(moved[i] == moved[i - 2] for i in range(2, len(moved)))
    repeat: int = sum(moved[i] in moved[: i - 1] for i in range(2, len(moved)))
    settled = values[len(values) // 2 :]
    mean = sum(settled) / len(settled) if settled else 0.0
    deviation = math.sqrt(sum((v - mean) ** 2 for v in settled) / len(settled)) if settled else 0.0
    best = abs(min(values, default=0.0))
    spread: float = min(1.0, deviation / best) if best else float(deviation > 0)
    return 0.4 * min(1.0, undo / steps) + 0.4 * min(1.0, repeat / steps) + 0.2 * spread


_JSON = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def _json_type(hint: Any) -> dict[str, Any]:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return {"type": "array", "items": _json_type(inner[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _json_type(inner[1])}
    if origin is types.UnionType:
        return {"type": [_JSON[t] for t in inner]}
    return {"type": _JSON[hint]}


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, inner[0]) for v in value)
    if origin is dict:
        return isinstance(value, Mapping) and all(isinstance(k, str) and _fits(v, inner[1]) for k, v in value.items())
    if origin is types.UnionType:
        return any(_fits(value, t) for t in inner)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
