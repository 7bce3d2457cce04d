"""Train a network in float32, which quantisation-aware training starts from."""

import platform
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.data import ImageSet, Splits, open_splits
from sparseflow.errors import DataError
from sparseflow.nn import models
from sparseflow.nn.models import read_checkpoint, save_checkpoint
from sparseflow.nn.models.checkpoint import round_half
from sparseflow.recipes.commit import commit
from sparseflow.recipes.device import device_of
from sparseflow.recipes.triseg.checkpoint import Images, build_network
from sparseflow.recipes.triseg.config import TrainConfig
from sparseflow.recipes.triseg.fit import accuracy, fit
from sparseflow.recipes.triseg.step import Guide, layout_of
from sparseflow.recipes.triseg.teacher import FLOAT, load_teacher

__all__ = [
    "arguments_for",
    "description",
    "float_file",
    "images_of",
    "read_float",
    "splits_of",
    "teacher_guide",
    "train_float",
    "training_images",
]


def train_float(config: TrainConfig, *, progress: bool = True, guide: Guide | None = None) -> dict[str, Any]:
    """Train, or go on where the run in `config.folder` stopped, and write `{model}_float_unfused.safetensors`.

    The epoch is chosen on `val`, images that are not trained on; test images are not read.

    Args:
        config: what to do.
        progress: show a progress bar.
        guide: from images to logits to learn from; None for `config.teacher`, if there is one.

    Returns:
        The record: file, accuracy on `val`, settings, device, versions, commit.

    Raises:
        ConfigError: no such network or device, or the run in the folder has other settings.
        DataError: images, teacher or saved state cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    device = device_of(config.device)
    splits = splits_of(config)
    arguments = arguments_for(config, splits.train)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = build_network(config.model, arguments)
    model = model.to(device=device, memory_format=layout_of(device))  # type: ignore[call-overload]
    if guide is None and config.teacher is not None:
        guide = teacher_guide(config.teacher, config, device)
    path = float_file(config)

    def record(val: float) -> dict[str, Any]:
        return description(config, device, began) | {"val_accuracy": val, "val_images": len(splits.val)}

    def write(trained: nn.Module, line: dict[str, Any]) -> None:
        stored = build_network(config.model, arguments)
        stored.load_state_dict({k: v.cpu() for k, v in trained.state_dict().items()})
        round_half(stored)
        save_checkpoint(path, stored, name=config.model, arguments=arguments, record=record(line["val"]))

    lines = fit(
        model, config, training_images(config, splits), splits.val, half=True, guide=guide, kept=write,
        progress=progress,
    )  # fmt: skip
    round_half(model)
    val = accuracy(model, splits.val, device)
    write(model, {"val": val})
    return record(val) | {"file": str(path), "epochs": len(lines), "history": lines}


def splits_of(config: TrainConfig) -> Splits:
    """Return the images of a configuration, divided."""
    return open_splits(
        config.data, val=config.val, calib=config.calib, seed=config.split_seed, held_out=config.held_out
    )


def training_images(config: TrainConfig, splits: Splits) -> ImageSet:
    """Return the images to train on, the first `config.train_limit` of them."""
    return splits.train if config.train_limit is None else splits.train.take(min(config.train_limit, len(splits.train)))


def arguments_for(config: TrainConfig, images: ImageSet) -> dict[str, Any]:
    """Return the arguments of the network's builder: the user's, and what follows from the images."""
    if ":" in config.model:
        return dict(config.model_args)
    _, channels, side, _ = images.images.shape
    given = {"in_channels": channels, "image_size": side, "num_classes": len(images.classes)}
    taken = models.arguments(config.model)
    return {k: v for k, v in given.items() if k in taken} | config.model_args


def images_of(images: ImageSet) -> Images:
    """Return what a network that is trained on images reads."""
    _, channels, height, width = images.images.shape
    return Images(shape=(channels, height, width), mean=images.mean, std=images.std, classes=images.classes)


def float_file(config: TrainConfig) -> Path:
    """Return where the network in float32 lies."""
    return Path(config.out) / FLOAT.format(model=config.name)


def read_float(path: Path, model: str) -> tuple[nn.Module, dict[str, Any]]:
    """Return the trained network of a file, and its builder's arguments.

    Raises:
        DataError: no such file, or one of another network; says what makes it.
    """
    if not path.is_file():
        raise DataError(f"no checkpoint {path}; make it with: sparseflow triseg train-float --model {model}")
    found = read_checkpoint(path)
    if found.model != model:
        raise DataError(f"{path} holds network {found.model!r}, not {model!r}; name a file of that, or another model")
    net = build_network(model, found.arguments)
    found.load_into(net)
    return net, dict(found.arguments)


def teacher_guide(name: str, config: TrainConfig, device: torch.device) -> Guide:
    """Return a function from images to the logits of a network on codes.

    Args:
        name: as for `load_teacher`.
        config: says in which folder.
        device: where it runs.
    """
    net = load_teacher(name, config.out, device=device).net

    def guide(x: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            said: Tensor = net(x)
            return said

    return guide


def description(config: TrainConfig, device: torch.device, began: float) -> dict[str, Any]:
    """Return what a record says of a run: settings, device, versions, commit, seconds."""
    return {
        "model": config.model,
        "stage": config.stage,
        "config": config.to_dict(),
        "train_s": time.perf_counter() - began,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": commit(),
    }
