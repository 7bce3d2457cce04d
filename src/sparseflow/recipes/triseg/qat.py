"""Quantisation-aware training: from a network in float32 to one on codes."""

import time
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from sparseflow.compress.quantize import QuantConfig, calibrate, freeze_bn, freeze_observers, prepare_qat, to_integer
from sparseflow.compress.quantize.qat import set_enabled
from sparseflow.recipes.device import device_of
from sparseflow.recipes.triseg.checkpoint import save_qat
from sparseflow.recipes.triseg.config import QatConfig
from sparseflow.recipes.triseg.fit import accuracy, fit
from sparseflow.recipes.triseg.step import Guide, layout_of
from sparseflow.recipes.triseg.teacher import QAT
from sparseflow.recipes.triseg.train import (
    description,
    float_file,
    images_of,
    read_float,
    splits_of,
    teacher_guide,
    training_images,
)

__all__ = ["train_qat"]


def train_qat(config: QatConfig, *, progress: bool = True, guide: Guide | None = None) -> dict[str, Any]:
    """Train on fake-quantised codes, or go on, and write `{model}_qat_preconvert.safetensors`.

    Ranges start from batches of calibration images. The epoch is chosen on `val`, among those with frozen ranges;
    test images are not read.

    Args:
        config: what to do.
        progress: show a progress bar.
        guide: from images to logits to learn from; None for `config.teacher`, if there is one.

    Returns:
        The record: file, accuracy on `val` in float32 before and of the integer network after, settings, device,
        versions, commit.

    Raises:
        ConfigError: no such network or device, or the run in the folder has other settings.
        DataError: images, start, teacher or saved state cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    device = device_of(config.device)
    splits = splits_of(config)
    train = training_images(config, splits)
    start = Path(config.start) if config.start is not None else float_file(config)
    plain, arguments = read_float(start, config.model)
    quant = QuantConfig(averaging=config.averaging)
    sample = splits.calib.normalize(splits.calib.images[:8])
    model = prepare_qat(plain.train(), sample, quant)
    model = model.to(device=device, memory_format=layout_of(device))  # type: ignore[call-overload]
    before = accuracy(plain.to(device), splits.val, device)
    calib = (x.to(device) for x, _ in islice(splits.calib.batches(config.batch_size), config.calib_batches))
    calibrate(model, calib)
    if guide is None and config.teacher is not None:
        guide = teacher_guide(config.teacher, config, device)
    warm = config.float_epochs / config.epochs
    path = Path(config.out) / QAT.format(model=config.name)

    phase = (False, False)

    def before_epoch(done: float) -> bool:
        nonlocal phase
        before, phase = phase, (done >= warm, done >= config.freeze_at)
        set_enabled(model, phase[0])
        if phase[1]:
            freeze_observers(model)
            freeze_bn(model)
        return phase != before

    def write(trained: nn.Module, line: dict[str, Any]) -> None:
        record = description(config, device, began) | line | {"val_images": len(splits.val), "float_val": before}
        save_qat(
            path, model, model=config.model, arguments=arguments, images=images_of(splits.train), record=record,
            config=quant,
        )  # fmt: skip

    lines = fit(
        model, config, train, splits.val, guide=guide, before_epoch=before_epoch, kept=write, progress=progress,
        may_keep=lambda done: done >= config.freeze_at,
    )  # fmt: skip
    set_enabled(model, True)
    freeze_observers(model)
    val = accuracy(to_integer(model), splits.val, device)
    final = {"val_accuracy": val}
    write(model, final)
    return description(config, device, began) | final | {
        "float_val": before, "val_images": len(splits.val), "file": str(path), "epochs": len(lines), "history": lines,
    }  # fmt: skip
