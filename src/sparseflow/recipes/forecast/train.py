"""Train a forecaster, score it on all windows of the test, and write its checkpoint."""

import json
import platform
import time
from typing import Any

import torch

from sparseflow.ir.files import write_atomic
from sparseflow.nn.models.cmamba import CMamba, build_model
from sparseflow.recipes.commit import commit
from sparseflow.recipes.device import multiply_as
from sparseflow.recipes.forecast.checkpoint import Forecaster, save_forecaster
from sparseflow.recipes.forecast.config import ForecastConfig
from sparseflow.recipes.forecast.dataset import Task, open_task
from sparseflow.recipes.forecast.fit import fit
from sparseflow.recipes.forecast.score import score
from sparseflow.recipes.ranks import join

__all__ = ["train_forecaster"]


def train_forecaster(config: ForecastConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train, or go on where a run in `config.folder` stopped, and write `forecaster.safetensors` and `record.json`.

    Processes that `torchrun` started share the windows of each step, `config.batch_size` in all: the same training,
    up to rounding and the draws of dropout. The first one scores and writes.

    L1 loss with Channel Mixup; Adam at `config.rate`; the weights that did best on val are kept, and the test is scored
    once, with them.

    Args:
        config: what to do.
        progress: show a progress bar.

    Returns:
        The record: scores on val and test, a line an epoch, settings, device, versions, commit, file.

    Raises:
        ConfigError: no such device or column, network settings out of range, or another run in the folder.
        DataError: the data or the saved state cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    ranks, device = join(config.device)
    task = open_task(config)
    args = config.network(len(task.columns))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_model(args)
    model.to(device)
    lines = fit(model, config, task, progress=progress, ranks=ranks)
    record = _finish(model, config, task, lines, device, ranks.count, began) if ranks.rank == 0 else None
    told: dict[str, Any] = ranks.tell(record)
    return told


def _finish(
    model: CMamba,
    config: ForecastConfig,
    task: Task,
    lines: list[dict[str, Any]],
    device: torch.device,
    count: int,
    began: float,
) -> dict[str, Any]:
    """Score a trained model, write its checkpoint and its record, and return the record."""
    best = [line for line in lines if line["kept"]][-1]
    scores: dict[str, Any] = {"val": {"mae": best["val"], "windows": len(task.part("val"))}}
    if "test" in task.parts:
        with multiply_as(config.precision, device) as cast, cast():
            pool = task.part("test").to(device)
            scores["test"] = score(model, pool, targets=task.targets, batch_size=config.eval_batch).to_dict()
    path = config.folder / "forecaster.safetensors"
    record = {
        "task": config.name,
        "variant": config.variant,
        "seed": config.seed,
        **scores,
        "epochs": len(lines),
        "best_epoch": best["epoch"],
        "history": lines,
        "parameters": sum(p.numel() for p in model.parameters()),
        "config": config.to_dict(all=True),
        "train_s": sum(line["seconds"] for line in lines),
        "wall_s": time.perf_counter() - began,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "processes": count,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": commit(),
        "file": str(path),
    }
    save_forecaster(
        path,
        Forecaster(
            model=model, columns=task.columns, targets=task.targets, scaler=task.scaler, config=config,
            record=record,
        ),
    )  # fmt: skip
    write_atomic(config.folder / "record.json", json.dumps(record, indent=2) + "\n")
    return record
