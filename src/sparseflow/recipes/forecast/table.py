"""One table of many trainings, from the records that they left: the record of a benchmark."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast.choose import on_val
from sparseflow.recipes.forecast.config import ForecastConfig
from sparseflow.recipes.forecast.results import DIGITS, is_benchmark, summarize

__all__ = ["table_of"]

_KEPT = (
    "task", "variant", "seed", "epochs", "best_epoch", "parameters", "train_s", "device", "processes", "versions",
    "commit",
)  # fmt: skip
_IN_A_TABLE = (
    "task", "seed", "mse", "mae", "windows", "val_mae", "dataset", "forecast_len", "benchmark", "config", "device",
    "versions", "commit",
)  # fmt: skip


def table_of(places: Sequence[str | Path], *, against: Sequence[str | Path] = ()) -> dict[str, Any]:
    """Return what trainings reached on the test, and whether it is what the paper reached.

    Args:
        places: `record.json` files, folders that hold some at any depth, or tables that this wrote before.
        against: the same, of trainings with other settings, to be compared on val.

    Returns:
        What `results.summarize` makes of them, `device` and `versions` where all trainings share them, `digits` that
        the figures need, `environment` with every device, version and commit that occurs, and `runs` with the scores,
        settings and origin of each; with `against` also `val`, which `choose.on_val` makes.

    Raises:
        ConfigError: no place, no record with a test in one of them, trainings of one task with different settings,
            whose mean would be that of no recipe, or nothing to compare with.
        DataError: a record is damaged.
    """
    runs = _runs(places)
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
        **({"val": on_val(runs, _runs(against))} if against else {}),
        "runs": runs,
    }


def _runs(places: Sequence[str | Path]) -> list[dict[str, Any]]:
    runs = [run for place in places for file in _records(Path(place)) for run in _read(file)]
    if not runs:
        raise ConfigError("no record to make a table of; name the folders of the trainings")
    _refuse_mixtures(runs)
    return sorted(runs, key=lambda r: (r["dataset"], r["forecast_len"], r["seed"]))


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


def _read(file: Path) -> list[dict[str, Any]]:
    """Return the trainings of a record, or of a table."""
    try:
        body = json.loads(file.read_text(encoding="utf-8"))
        if "runs" in body:
            return [{key: run[key] for key in _IN_A_TABLE} | run for run in body["runs"]]
        config = ForecastConfig.from_dict(body["config"])
        run = {
            **{key: body[key] for key in _KEPT},
            **{key: body["test"][key] for key in ("mse", "mae", "windows")},
            "val_mae": body["val"]["mae"],
            "dataset": config.dataset,
            "forecast_len": config.forecast_len,
            "benchmark": is_benchmark(config),
            # As a table holds it.
            "config": json.loads(json.dumps(config.to_dict())),
        }
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{file} is no record of a training with a test, and no table: {e!r}") from e
    return [run]
