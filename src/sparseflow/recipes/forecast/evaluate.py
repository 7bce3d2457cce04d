"""Score trained forecasters, one or one a seed, on all windows of a split."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.forecast.checkpoint import Forecaster, load_forecaster
from sparseflow.recipes.forecast.dataset import Task, open_task
from sparseflow.recipes.forecast.results import DIGITS, is_benchmark, summarize
from sparseflow.recipes.forecast.score import score
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["evaluate", "open_forecaster"]


def open_forecaster(path: str, data: str | None = None) -> tuple[Forecaster, Task]:
    """Return a forecaster and the windows of its data, scaled as in its training.

    Args:
        path: name of a shipped forecaster or file of `train_forecaster`.
        data: file or folder of the data set; None for where it lay in the training, or the ETTh1 that ships.

    Raises:
        ConfigError: the data has other columns.
        DataError: the checkpoint or the data cannot be read.
    """
    found = load_forecaster(path)
    task = open_task(found.config if data is None else replace(found.config, data=data), found.scaler)
    if task.columns != found.columns:
        raise ConfigError(f"{path} forecasts {', '.join(found.columns)}; the data holds {', '.join(task.columns)}")
    return found, task


def evaluate(
    checkpoints: Sequence[str],
    *,
    data: str | None = None,
    split: str = "test",
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 512,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Return MSE and MAE of each checkpoint, and their means over seeds and horizons.

    The readings are scaled as in the training of each.

    Args:
        checkpoints: names of shipped forecasters or files of `train_forecaster`, of one task or several.
        data: file or folder of the data set; None for where it lay in the training, or the ETTh1 that ships.
        split: "train", "val" or "test".
        device: "auto", "cpu" or "cuda".
        precision: as of the training; float32 unless asked for.
        batch_size: windows a call.
        out: file for the JSON, with where it was made; None for none.

    Returns:
        What `results.summarize` makes of them; `runs`, one a checkpoint; and if all have one task, `task`, `windows`,
        `mse` and `mae`, with `mse_stdev` and `mae_stdev` of two or more.

    Raises:
        ConfigError: no checkpoint, or no such split.
        DataError: a checkpoint or the data cannot be read.
        MeasurementError: a forecast is not finite.
    """
    if not checkpoints:
        raise ConfigError("no checkpoint to score; name at least one")
    where = device_of(device)
    runs: list[dict[str, Any]] = []
    for path in checkpoints:
        found, task = open_forecaster(path, data)
        config = found.config
        pool = task.part(split).to(where)
        model = found.model.to(where)
        with multiply_as(precision, where) as cast, cast():
            scores = score(model, pool, targets=found.targets, batch_size=batch_size)
        about = {"task": config.name, "dataset": config.dataset, "forecast_len": config.forecast_len}
        runs.append(
            {"file": str(path), **about, "seed": config.seed, "benchmark": is_benchmark(config), **scores.to_dict()}
        )
    body = summarize(runs, split=split)
    one = body["tasks"][0] if len(body["tasks"]) == 1 else {}
    means = {k: v for k, v in one.items() if k in ("task", "windows") or k.startswith(("mse", "mae"))}
    body = {**means, "split": split, "unit": "scaled", **body, "runs": runs}
    if out is not None:
        prepare_folder(Path(out).parent)
        write_atomic(out, json.dumps({"digits": DIGITS, **body, "environment": describe()}, indent=1) + "\n")
    return body
