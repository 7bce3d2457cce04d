"""The tables of video transformers, accuracy by arm and speed by form, as Markdown."""

from collections.abc import Mapping
from typing import Any

__all__ = ["VIDEO", "arms", "speeds"]


def arms(body: Mapping[str, Any]) -> str:
    """Return accuracies by data set and arm, with their intervals and what was lost against the dense network.

    Args:
        body: what `sparseflow video compare` writes.
    """
    lines = [
        "| data | arm | top-1 | 95 % | lost, points | 95 % | clips/s | seeds |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in body["rows"]:
        data = row["dataset"] + (" (synthetic)" if row["synthetic"] else "")
        span = row["drop_interval"]
        cells = [
            f"{100 * row['top1']:.2f} %",
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
            "" if row["drop"] is None else f"{100 * row['drop']:.2f}",
            "" if span is None else f"{100 * span[0]:.1f} to {100 * span[1]:.1f}",
            "" if row.get("clips_per_s") is None else f"{row['clips_per_s']:,.0f}",
            str(len(row["seeds"])),
        ]
        lines.append(f"| {data} | {row['arm']} | {' | '.join(cells)} |")
    commits = [c[:12] for c in body.get("commit", []) if c != "None"]
    about = [*body.get("device", []), *(f"commit {c}" for c in commits)]
    return "\n".join([*lines, "", f"<sub>{'. '.join(about)}.</sub>"] if about else lines)


def speeds(body: Mapping[str, Any]) -> str:
    """Return times by form: each at its fastest, operations and memory.

    Args:
        body: what `sparseflow video bench` writes.
    """
    lines = [
        "| form | threads | ms | × dense | clips/s | GFLOP | way | MiB | MiB, training |",
        "|---|--:|--:|--:|--:|--:|---|--:|--:|",
    ]
    for row in body["rows"]:
        way = min(row["ways"], key=row["ways"].__getitem__, default="")
        cells = [
            str(row["threads"] or ""),
            f"{1e3 * row['ways'][way]:.2f}" if way else "does not run",
            f"{row['speedup']:.3g}",
            f"{row['clips_per_s']:.3g}",
            f"{row['gflops']:.1f}",
            way,
            *(f"{row[key] / 2**20:.0f}" if row[key] else "" for key in ("peak_bytes", "train_peak_bytes")),
        ]
        lines.append(f"| {row['form']} | {' | '.join(cells)} |")
    return "\n".join(lines)


VIDEO = {"arms": arms, "speeds": speeds}
