"""One table of many trainings, from the records that they left: the record of a benchmark."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast.config import ForecastConfig
from sparseflow.recipes.forecast.results import DIGITS, is_benchmark, summarize

__all__ = ["table_of"]

_KEPT = (
    "task", "variant", "seed", "epochs", "best_epoch", "parameters", "train_s", "device", "processes", "versions",
    "commit",
)  # fmt: skip


def table_of(places: Sequence[str | Path]) -> dict[str, Any]:
    """Return what trainings reached on the test, and whether it is what the paper reached.

    Args:
        places: `record.json` files, or folders that hold some at any depth.

    Returns:
        What `results.summarize` makes of them, `device` and `versions` where all trainings share them, `digits` that
        the figures need, `environment` with every device, version and commit that occurs, and `runs` with the scores,
        settings and origin of each.

    Raises:
        ConfigError: no place, no record with a test in one of them, or trainings of one task with different settings,
            whose mean would be that of no recipe.
        DataError: a record is damaged.
    """
    files = [file for place in places for file in _records(Path(place))]
    if not files:
        raise ConfigError("no record to make a table of; name the folders of the trainings")
    runs = [_run(file) for file in files]
    _refuse_mixtures(runs)
    shared = {}
    for key in ("device", "versions"):
        values = {json.dumps(run[key], sort_keys=True) for run in runs}
        if len(values) == 1:
            shared[key] = runs[0][key]
    return {
        "digits": DIGITS,
        "environment": _environment(runs),
        **shared,
        **summarize(runs),
        "runs": sorted(runs, key=lambda r: (r["dataset"], r["forecast_len"], r["seed"])),
    }


def _environment(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    seen = [{"Device": r["device"], **r["versions"], "Commit": (r["commit"] or "unknown")[:12]} for r in runs]
    return {key: ", ".join(sorted({str(one[key]) for one in seen if key in one})) for key in seen[0]}


def _refuse_mixtures(runs: Sequence[Mapping[str, Any]]) -> None:
    first: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        known = first.setdefault(run["task"], run)["config"]
        other = sorted(k for k, v in run["config"].items() if k != "seed" and v != known[k])
        if other:
            told = ", ".join(f"{k} {known[k]!r} and {run['config'][k]!r}" for k in other)
            raise ConfigError(f"trainings of {run['task']} differ in {told}; make a table of each")


def _records(place: Path) -> list[Path]:
    found = sorted(place.rglob("record.json")) if place.is_dir() else [place]
    if not found:
        raise ConfigError(f"{place} holds no record.json; name the folder of a training, as outputs/forecast")
    return found


def _run(file: Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        config = ForecastConfig.from_dict(record["config"])
        return {
            **{key: record[key] for key in _KEPT},
            **{key: record["test"][key] for key in ("mse", "mae", "windows")},
            "val_mae": record["val"]["mae"],
            "dataset": config.dataset,
            "forecast_len": config.forecast_len,
            "benchmark": is_benchmark(config),
            "config": config.to_dict(),
        }
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{file} is no record of a training with a test: {e!r}") from e
