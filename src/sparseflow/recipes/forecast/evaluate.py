"""Score trained forecasters, one or one a seed, on all windows of a split."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.forecast.checkpoint import load_forecaster
from sparseflow.recipes.forecast.dataset import open_task
from sparseflow.recipes.forecast.score import score

__all__ = ["evaluate"]


def evaluate(
    checkpoints: Sequence[str],
    *,
    data: str | None = None,
    split: str = "test",
    device: str = "auto",
    precision: str = "float32",
    batch_size: int = 512,
) -> dict[str, Any]:
    """Return MSE and MAE of each checkpoint and their means.

    The readings are scaled as in the training of each.

    Args:
        checkpoints: files of `train_forecaster`, of the same task.
        data: file or folder of the data set; None for where it lay in the training, or the ETTh1 that ships.
        split: "train", "val" or "test".
        device: "auto", "cpu" or "cuda".
        precision: as of the training; float32 unless asked for.
        batch_size: windows a call.

    Returns:
        `mse` and `mae`, means over the checkpoints, with `mse_stdev` and `mae_stdev` of two or more; `windows`; and
        `runs`, one a checkpoint.

    Raises:
        ConfigError: none, checkpoints of different tasks, or no such split.
        DataError: a checkpoint or the data cannot be read.
        MeasurementError: a forecast is not finite.
    """
    if not checkpoints:
        raise ConfigError("no checkpoint to score; name at least one")
    where = device_of(device)
    runs: list[dict[str, Any]] = []
    for path in checkpoints:
        found = load_forecaster(path)
        config = found.config if data is None else replace(found.config, data=data)
        task = open_task(config, found.scaler)
        if task.columns != found.columns:
            raise ConfigError(f"{path} forecasts {', '.join(found.columns)}; the data holds {', '.join(task.columns)}")
        pool = task.part(split).to(where)
        model = found.model.to(where)
        with multiply_as(precision, where) as cast, cast():
            scores = score(model, pool, targets=found.targets, batch_size=batch_size)
        runs.append({"file": str(path), "task": config.name, "seed": config.seed, **scores.to_dict()})
    if len({(run["task"], run["windows"]) for run in runs}) > 1:
        raise ConfigError(f"checkpoints of different tasks: {', '.join(sorted({run['task'] for run in runs}))}")
    body: dict[str, Any] = {"task": runs[0]["task"], "split": split, "windows": runs[0]["windows"], "unit": "scaled"}
    for name in ("mse", "mae"):
        values = [run[name] for run in runs]
        body[name] = fmean(values)
        if len(values) > 1:
            body[f"{name}_stdev"] = stdev(values)
    return body | {"runs": runs}
