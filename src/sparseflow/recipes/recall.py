"""Times of rivals that an earlier run of the same demonstration took, where torch cannot keep what it compiled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Recalled", "recall"]

# Moves with every change of the code, which changes nothing about the dense network.
_FREE = frozenset({"Commit", "sparseflow"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Recalled:
    """How one rival compared with another when both ran side by side.

    Args:
        other: name of that other one.
        ratio: its time over the other's.
        measured: date and time of the run that timed both, ISO 8601.
    """

    other: str
    ratio: float
    measured: str

    @property
    def note(self) -> str:
        """What to say beside a time that rests on this."""
        return (
            f"not compiled again: {self.ratio:.3f} times compiled torch of the same layout, as in the run of "
            f"{self.measured}; --fresh times it anew"
        )


def recall(
    report: Path,
    pairs: Mapping[str, str],
    *,
    command: str,
    batch: int,
    environment: Mapping[str, str],
) -> dict[str, Recalled]:
    """Return what a report knows of rivals, if the same command wrote it on the same machine and versions.

    Args:
        report: path of `report.json`; need not exist.
        pairs: name of the rival to look for, to the name of the one it is compared with.
        command: what must have been run.
        batch: images in the timed batch.
        environment: machine and versions; the project's own commit may differ.

    Returns:
        The comparison by name of the rival; empty where nothing fits. A time that
        was itself recalled keeps the date of the run that took it.
    """
    try:
        body: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        same = body["command"] == command and body["batch"] == batch
        if not same or _fixed(body["environment"]) != _fixed(environment):
            return {}
        known = {v["name"]: v for v in body["variants"] if v["latency_s"]}
        return {
            name: Recalled(
                other=other,
                ratio=float(known[name]["latency_s"]) / float(known[other]["latency_s"]),
                measured=str(known[name].get("measured") or body["created"]),
            )
            for name, other in pairs.items()
            if name in known and other in known
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in environment.items() if key not in _FREE}
