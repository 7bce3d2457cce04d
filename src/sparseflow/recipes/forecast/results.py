"""Scores of many trainings in one table: means over seeds, averages over horizons, and what the paper reached."""

from collections.abc import Iterable, Mapping
from statistics import fmean, stdev
from types import MappingProxyType
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.forecast.config import ForecastConfig

__all__ = ["DIGITS", "HORIZONS", "PUBLISHED", "TARGETS", "is_benchmark", "summarize"]

HORIZONS = (96, 192, 336, 720)

PUBLISHED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"ETTh1": (0.433, 0.425), "ETTh2": (0.368, 0.391), "ETTm1": (0.376, 0.379), "ETTm2": (0.273, 0.316)}
)
"""MSE and MAE of the paper, the mean over `HORIZONS` after 96 readings (arXiv 2406.05316, third version)."""

TARGETS: Mapping[str, tuple[float, float]] = MappingProxyType({"ETTh1_96": (0.375, 0.389)})
"""MSE and MAE that the mean over seeds of a task must reach; the paper's are .372 and .386."""

DIGITS = 4
"""Significant digits that an error needs, as papers tell three and targets lie closer."""

_SLACK = 1.01
_ERRORS = ("mse", "mae")


def is_benchmark(config: ForecastConfig) -> bool:
    """Tell whether a training's task is one that the paper reports: ETT whole, 96 readings seen."""
    whole = not config.columns and not config.targets and config.train_limit is None
    return config.dataset in PUBLISHED and config.seq_len == 96 and config.forecast_len in HORIZONS and whole


def summarize(runs: Iterable[Mapping[str, Any]], *, split: str = "test") -> dict[str, Any]:
    """Return the table of some scored trainings.

    Args:
        runs: each with task, dataset, forecast_len, seed, mse, mae, windows and benchmark (see `is_benchmark`).
        split: what they were scored on; only scores on the test are held against the paper.

    Returns:
        `tasks`: windows, seeds and mean errors of each, with their deviation where there are two seeds or more;
        `averages`: of each data set of which all `HORIZONS` are there, with the paper's; and, where there is something
        to hold them against, `checks` and `ok`.

    Raises:
        ConfigError: no run, or runs of one task on other windows.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        groups.setdefault(str(run["task"]), []).append(run)
    if not groups:
        raise ConfigError("no scored training to make a table of")
    tasks = [_task(name, found) for name, found in groups.items()]
    tasks.sort(key=lambda t: (t["dataset"], t["forecast_len"]))
    body: dict[str, Any] = {"tasks": tasks, "averages": _averages(tasks) if split == "test" else []}
    checks = _checks(tasks, body["averages"]) if split == "test" else []
    return body | (checks_body(checks) if checks else {})


def _task(name: str, runs: list[Mapping[str, Any]]) -> dict[str, Any]:
    windows = {run["windows"] for run in runs}
    if len(windows) > 1:
        raise ConfigError(f"{name} was scored on {' and '.join(str(n) for n in sorted(windows))} windows; use one file")
    first = runs[0]
    body = {
        "task": name,
        "dataset": first["dataset"],
        "forecast_len": first["forecast_len"],
        "benchmark": all(run["benchmark"] for run in runs),
        "windows": first["windows"],
        "seeds": [run["seed"] for run in runs],
    }
    for error in _ERRORS:
        values = [run[error] for run in runs]
        body[error] = fmean(values)
        if len(values) > 1:
            body[f"{error}_stdev"] = stdev(values)
    return body


def _averages(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    for dataset, published in PUBLISHED.items():
        found = [t for t in tasks if t["dataset"] == dataset and t["benchmark"]]
        if sorted(t["forecast_len"] for t in found) != list(HORIZONS):
            continue
        row: dict[str, Any] = {"dataset": dataset, "seeds": min(len(t["seeds"]) for t in found)}
        for error, theirs in zip(_ERRORS, published, strict=True):
            row[error], row[f"{error}_published"] = fmean(t[error] for t in found), theirs
        rows.append(row)
    return rows


def _checks(tasks: list[dict[str, Any]], averages: list[dict[str, Any]]) -> list[Check]:
    held = [
        (f"{task['dataset']}, {task['forecast_len']} ahead, mean of {len(task['seeds'])}", task, TARGETS[task["task"]])
        for task in tasks
        if task["benchmark"] and task["task"] in TARGETS
    ]
    held += [
        (f"{row['dataset']}, mean of {', '.join(map(str, HORIZONS))} ahead", row, tuple(
            round(_SLACK * row[f"{error}_published"], 5) for error in _ERRORS
        ))
        for row in averages
    ]  # fmt: skip
    return [
        Check(show="1", name=f"{name}: {error.upper()}", value=row[error], unit="", rule="<=", bound=bound)
        for name, row, bounds in held
        for error, bound in zip(_ERRORS, bounds, strict=True)
    ]
