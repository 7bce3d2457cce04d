"""The table of forecasts by horizon, as Markdown."""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["horizons"]

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


def _seeds(tasks: Iterable[Mapping[str, Any]]) -> str:
    counts = [len(task["seeds"]) for task in tasks]
    return ", ".join(str(n) for n in (counts[:1] if len(set(counts)) == 1 else counts))


def _pair(row: Mapping[str, Any] | None) -> str:
    return f"{row['mse']:.3f} / {row['mae']:.3f}" if row else ""


def _published(row: Mapping[str, Any] | None) -> str:
    return f"{row['mse_published']:.3f} / {row['mae_published']:.3f}" if row else ""
