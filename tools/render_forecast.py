"""The tables of forecasts by horizon, of two settings on val, and of scans by form, as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["FORECAST", "choice", "horizons", "scans"]

_ERRORS = (("mse_stdev", "MSE"), ("mae_stdev", "MAE"))


def horizons(body: Mapping[str, Any]) -> str:
    """Return errors by series and horizon, each MSE / MAE, with the mean and the paper's.

    Args:
        body: what `sparseflow forecast table` writes.
    """
    lengths = sorted({task["forecast_len"] for task in body["tasks"]})
    averages = {row["dataset"]: row for row in body["averages"]}
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for task in body["tasks"]:
        found.setdefault(task["dataset"], {})[task["forecast_len"]] = task
    lines = [
        f"| series | {' | '.join(str(n) for n in lengths)} | mean | CMamba's paper | seeds |",
        f"|---|{'--:|' * (len(lengths) + 3)}",
    ]
    for dataset, tasks in found.items():
        cells = [_pair(tasks.get(n)) for n in lengths]
        cells += [_pair(averages.get(dataset)), _published(averages.get(dataset)), _seeds(tasks.values())]
        lines.append(f"| {dataset} | {' | '.join(cells)} |")
    several = [t for t in body["tasks"] if len(t["seeds"]) > 1]
    spread = [f"{name} {max(t[error] for t in several):.4f}" for error, name in _ERRORS if several]
    commits = sorted({run["commit"][:12] for run in body["runs"] if run.get("commit")})
    versions = body.get("versions") or {}
    about = [
        "MSE / MAE on all windows of the test, means over seeds where there are several"
        + (f", whose deviation is at most {', '.join(spread)}" if spread else ""),
        str(body.get("device", "")),
        f"torch {versions['torch']}" if "torch" in versions else "",
        f"commit {', '.join(commits)}" if commits else "",
    ]
    return "\n".join([*lines, "", f"<sub>{'. '.join(part for part in about if part)}.</sub>"])


def choice(body: Mapping[str, Any]) -> str:
    """Return how two settings compare on val, a row a task.

    Args:
        body: what `sparseflow forecast table --against` writes.
    """
    val = body["val"]
    lines = ["| task | MAE on val | with the other settings | ratio | seeds |", "|---|--:|--:|--:|--:|"]
    for task in val["tasks"]:
        ours, theirs = task["val_mae"], task["other_val_mae"]
        name = task["task"].replace("_", ", ")
        lines.append(f"| {name} | {ours:.4f} | {theirs:.4f} | {ours / theirs:.4f} | {len(task['seeds'])} |")
    return "\n".join([*lines, f"| geometric mean | | | **{val['ratio']:.4f}** | |"])


def scans(body: Mapping[str, Any]) -> str:
    """Return times and memory of scans by form, beside mambapy's.

    Args:
        body: what `sparseflow forecast bench --device cuda` writes.
    """
    lines = [
        "| sequences, steps | form | us | mambapy us | × | MiB | mambapy MiB |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in body["speed"]:
        times = [_scaled(row[key], 1e6) for key in ("ours_s", "rival_s")]
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.1f}"
        memory = [_scaled(row[key], 2**-20) for key in ("ours_bytes", "rival_bytes")]
        lines.append(
            f"| {row['sequences']}, {row['steps']} | {' | '.join([row['form'], *times, ratio, *memory])} |"
        )  # fmt: skip
    return "\n".join(lines)


def _scaled(value: float | None, factor: float) -> str:
    return f"{value * factor:,.0f}" if value else ""


def _seeds(tasks: Iterable[Mapping[str, Any]]) -> str:
    counts = [len(task["seeds"]) for task in tasks]
    return ", ".join(str(n) for n in (counts[:1] if len(set(counts)) == 1 else counts))


def _pair(row: Mapping[str, Any] | None) -> str:
    return f"{row['mse']:.3f} / {row['mae']:.3f}" if row else ""


def _published(row: Mapping[str, Any] | None) -> str:
    return f"{row['mse_published']:.3f} / {row['mae_published']:.3f}" if row else ""


FORECAST = {"choice": choice, "horizons": horizons, "scans": scans}
"""What makes the tables of forecasts, by the part of the name behind the point."""
