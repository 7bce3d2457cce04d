"""The page of a forecaster: its scores beside naive forecasts, pictures of forecasts, and how it learned."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow import report as pages
from sparseflow.data import ETT
from sparseflow.errors import ConfigError
from sparseflow.recipes.device import device_of, multiply_as
from sparseflow.recipes.forecast.checkpoint import Forecaster
from sparseflow.recipes.forecast.dataset import Pool, Task
from sparseflow.recipes.forecast.evaluate import open_forecaster
from sparseflow.recipes.forecast.results import is_benchmark, summarize
from sparseflow.recipes.forecast.score import errors

__all__ = ["forecast_page"]

_DIGITS = 4


def forecast_page(
    checkpoints: Sequence[str],
    folder: str | Path,
    *,
    data: str | None = None,
    split: str = "test",
    device: str = "auto",
    moments: int = 3,
    batch_size: int = 512,
    command: str = "",
) -> dict[str, Any]:
    """Score forecasters of one task, draw some of their forecasts, and write `report.html` and `report.json`.

    Args:
        checkpoints: names of shipped forecasters or files of `train_forecaster`; pictures are the first one's.
        folder: where to.
        data: file or folder of the data set; None for where it lay in the training, or the ETTh1 that ships.
        split: "train", "val" or "test".
        device: "auto", "cpu" or "cuda"; in float32.
        moments: windows to draw, from the first to the last at equal distances.
        batch_size: windows a call.
        command: what to say that repeats the page.

    Returns:
        The body of `report.json`, with the paths of both files under `files`.

    Raises:
        ConfigError: no checkpoint, checkpoints of different tasks, or no such split.
        DataError: a checkpoint or the data cannot be read, or the folder cannot be written.
    """
    if not checkpoints:
        raise ConfigError("no checkpoint to draw; name at least one")
    path = pages.prepare_folder(folder)
    where = device_of(device)
    opened = [open_forecaster(name, data) for name in checkpoints]
    first, task = opened[0]
    if len({found.config.name for found, _ in opened}) > 1:
        raise ConfigError("checkpoints of different tasks; draw each task on a page of its own")
    found_errors = []
    with multiply_as("float32", where):
        for found, own in opened:
            pool = own.part(split).to(where)
            found.model.to(where)
            found_errors.append(_errors(found.model, pool, found, batch_size, where))
        pool = task.part(split).to(where)
        naive = {
            name: _errors(rule, pool, first, batch_size, where)
            for name, rule in _naive(first.config.dataset, first.config.forecast_len).items()
        }
        drawn = _moments(first, task, pool, split, moments, where)
    table = summarize(
        [_row(found, e, len(pool)) for (found, _), e in zip(opened, found_errors, strict=True)], split=split
    )
    results = [_score(f"seed {found.config.seed}", e) for (found, _), e in zip(opened, found_errors, strict=True)]
    if len(results) > 1:
        (mean,) = table["tasks"]
        results.append(pages.Score(name=f"mean of {len(results)}", mse=mean["mse"], mae=mean["mae"], kind="mean"))
    results += [_score(name, e, kind="naive") for name, e in naive.items()]
    run = pages.ForecastRun(
        title=f"CMamba on {task.name}",
        split=split,
        windows=len(pool),
        seq_len=first.config.seq_len,
        forecast_len=first.config.forecast_len,
        results=tuple(results),
        by_variate=tuple(_score(task.columns[v], found_errors[0][:, i]) for i, v in enumerate(first.targets)),
        by_step=tuple(found_errors[0][0].mean(0).tolist()),
        moments=drawn,
        losses=tuple(course for found, _ in opened if (course := _losses(found))),
        checks=tuple(table.get("checks", ())),
        environment={"Trained on": str(first.record.get("device", "")), **pages.describe()},
        protocol=_protocol(first, split, batch_size),
        notes=tuple(_note(found) for found, _ in opened if "train_s" in found.record),
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    files = pages.write_forecast(run, path)
    return {**run.to_dict(), "files": [str(f) for f in files]}


def _errors(forecast: Any, pool: Pool, found: Forecaster, batch_size: int, device: torch.device) -> Tensor:
    return errors(forecast, pool, targets=found.targets, batch_size=batch_size, device=device).cpu()


def _naive(dataset: str, length: int) -> dict[str, Any]:
    """Return forecasts that need no training: `[B, V, L]` to `[B, V, F]`."""
    rules: dict[str, Any] = {"the last reading, repeated": lambda x: x[..., -1:].expand(*x.shape[:2], length)}
    if dataset in ETT:
        day = 96 if "m" in dataset else 24
        rules["the last day, repeated"] = lambda x: x[..., -day:].repeat(1, 1, -(-length // day))[..., :length]
    return rules


def _row(found: Forecaster, e: Tensor, windows: int) -> dict[str, Any]:
    mse, mae = e.mean((1, 2)).tolist()
    about = {"task": found.config.name, "dataset": found.config.dataset, "forecast_len": found.config.forecast_len}
    benchmark = is_benchmark(found.config)
    return {**about, "seed": found.config.seed, "mse": mse, "mae": mae, "windows": windows, "benchmark": benchmark}


def _score(name: str, e: Tensor, *, kind: str = "seed") -> pages.Score:
    mse, mae = e.flatten(1).mean(1).tolist()
    return pages.Score(name=name, mse=mse, mae=mae, kind=kind)


@torch.no_grad()
def _moments(
    found: Forecaster, task: Task, pool: Pool, split: str, count: int, device: torch.device
) -> tuple[pages.Moment, ...]:
    places = sorted({round(i * (len(pool) - 1) / max(count - 1, 1)) for i in range(count)})
    drawn = []
    for at in places:
        x, y = pool.take(torch.tensor([at], device=device))
        past, truth, ahead = (_unscaled(found, t) for t in (x, y, found.model(x)))
        views = tuple(
            pages.Ahead(name=task.columns[v], past=past[v], truth=truth[v], forecast=ahead[v]) for v in found.targets
        )
        last = task.starts.get(split, 0) + at + x.shape[2] - 1
        after = "" if task.dates is None else f", after {task.dates[last]}"
        drawn.append(pages.Moment(title=f"window {at + 1} of {len(pool)}{after}", variates=views))
    return tuple(drawn)


def _unscaled(found: Forecaster, x: Tensor) -> list[tuple[float, ...]]:
    """Return a window `[1, V, T]` in units of the data, a row a variate."""
    values = x[0].T.double().cpu().numpy()
    values = values if found.scaler is None else found.scaler.unscale(values)
    return [tuple(round(float(v), _DIGITS) for v in row) for row in values.T]


def _losses(found: Forecaster) -> pages.Losses | None:
    history = found.record.get("history")
    if not history:
        return None
    return pages.Losses(
        name=f"seed {found.config.seed}",
        train=tuple(line["loss"] for line in history),
        val=tuple(line["val"] for line in history),
        best=max(line["epoch"] for line in history if line["kept"]),
    )


def _note(found: Forecaster) -> str:
    r = found.record
    commit = f", at commit {r['commit'][:12]}" if r.get("commit") else ""
    return (
        f"Seed {r['seed']}: {r['epochs']} epochs in {r['train_s']:.0f} s on {r['device']}, the weights of epoch "
        f"{r['best_epoch'] + 1} were kept{commit}."
    )


def _protocol(found: Forecaster, split: str, batch_size: int) -> tuple[str, ...]:
    return (
        f"Every window of the {split} part counts once; squared and absolute errors are summed in float64.",
        "Readings are scaled by mean and deviation of the training part; the network was trained on that part alone, "
        "and its epoch chosen on val.",
        f"Network in float32, {batch_size} windows a call, {sum(p.numel() for p in found.model.parameters())} weights.",
    )
