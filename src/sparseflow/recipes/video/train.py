"""Train a video transformer, score it on its test, and write its checkpoint."""

import json
import platform
import time
from typing import Any

import torch

from sparseflow.ir.files import write_atomic
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.commit import commit
from sparseflow.recipes.device import multiply_as
from sparseflow.recipes.ranks import join
from sparseflow.recipes.video.checkpoint import Trained, save_trained
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.fit import fit
from sparseflow.recipes.video.network import build
from sparseflow.recipes.video.score import score
from sparseflow.recipes.video.sources import Source, open_sources

__all__ = ["train_video"]


def train_video(config: VideoConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train, or go on where a run in `config.folder` stopped, and write `video.safetensors` and `record.json`.

    Cross entropy, and of a pruned network λ_AST times its pruner's loss and λ_hw times its operations; AdamW, a rate
    that warms up and then falls along a cosine. The test is scored with the last weights; nothing is chosen by it.
    Processes that `torchrun` started share the clips of each step, `config.batch_size` in all; the first one scores and
    writes.

    Args:
        config: what to do.
        progress: show a progress bar.

    Returns:
        The record: scores on the test, shares kept, a line an epoch, settings, device, versions, commit, file.

    Raises:
        ConfigError: no such device, settings of the network or pruner out of range, or another run in the folder.
        DataError: clips, `init_from` or the saved state cannot be read; names the file.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    ranks, device = join(config.device)
    if ranks.rank == 0:
        # A sample tree is written by one process, before the others look for it.
        train, test = open_sources(config, device)
    ranks.wait()
    if ranks.rank:
        train, test = open_sources(config, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build(config, classes=len(train.classes), channels=train.channels)
    model.to(device)
    lines = fit(model, config, train, test, progress=progress, ranks=ranks)
    record = _finish(model, config, test, lines, device, ranks.count, began) if ranks.rank == 0 else None
    told: dict[str, Any] = ranks.tell(record)
    return told


def _finish(
    model: VideoViT,
    config: VideoConfig,
    test: Source,
    lines: list[dict[str, Any]],
    device: torch.device,
    count: int,
    began: float,
) -> dict[str, Any]:
    """Score a trained model, write its checkpoint and its record, and return the record."""
    with multiply_as(config.precision, device, auto="bfloat16") as cast:
        scores = score(model, test, batch_size=config.eval_batch, cast=cast)
    path = config.folder / "video.safetensors"
    record = {
        "task": config.title,
        "dataset": config.dataset,
        "synthetic": test.synthetic,
        "mode": config.mode,
        "seed": config.seed,
        "test": scores.to_dict(),
        "epochs": len(lines),
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
    save_trained(path, Trained(model=model, classes=test.classes, config=config, record=record))
    write_atomic(config.folder / "record.json", json.dumps(record, indent=2) + "\n")
    return record
