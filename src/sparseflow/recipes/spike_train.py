"""Train a spiking network on real images, sparse but alive, and write its checkpoint.

Loss = cross entropy with label smoothing + rate_weight · Σ over layers of
relu(r / rate_high - 1)² + relu(1 - r / rate_low)², r the mean of a layer's input
spikes. The first term keeps layers cheap to run event by event, the second keeps
them alive.
"""

import copy
import json
import math
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from sparseflow import data
from sparseflow.data import ImageSet
from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import load_checkpoint, save_checkpoint
from sparseflow.nn.models.checkpoint import round_half
from sparseflow.recipes.analog import AnalogTwin
from sparseflow.recipes.augment import augmented
from sparseflow.recipes.densities import Rated, evaluate, fed_layers, resized
from sparseflow.recipes.exact import RowGrids, make_exact
from sparseflow.recipes.spike_start import load_weights, threshold_start, unfold_norms
from sparseflow.recipes.spike_train_config import SpikeTrainConfig
from sparseflow.recipes.train_state import resume, save_state, write

__all__ = ["SpikeTrainConfig", "evaluate", "load_checkpoint", "train"]


def train(config: SpikeTrainConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train, or go on where a run in `config.out` stopped, and write the checkpoint.

    With `phases` the images grow during the run; at the end of each phase but the last its
    weights are written to `phaseK.safetensors`, which `init_from` takes.

    The state is saved after every epoch, whole or not at all; Ctrl-C or a kill loses
    at most the epoch in progress. A run by `minutes` keeps no state and starts afresh.
    The checkpoint's weights are float16 values on exact grids (see `make_exact`), in
    bytes with `grid_bits`, and the accuracy in its record is theirs.

    Args:
        config: what to do.
        progress: show a progress bar.

    Returns:
        The record: accuracy, density by layer, configuration, device, versions, commit.

    Raises:
        ConfigError: no such device, the run in `out` has another configuration, or `init_from` holds another model.
        DataError: the images, `init_from` or the saved state cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    device = _device(config.device)
    train_set = _load(config, "train").take(config.train_limit)
    test_set = _load(config, "test").take(config.test_limit)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        arguments = _arguments(config, train_set)
        model = models.build(config.model, **arguments).eval()
    _start(config, model, train_set)
    sample = resized(test_set.normalize(test_set.images[:2]), config.side)
    grids = RowGrids(model, sample, config.grid_bits) if config.grid_bits else None
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = _optimizer(config, model, device)
    start = resume(out, _identity(config), model, optimizer) if config.minutes is None else 0
    rated = Rated(model, fused=config.fused)
    call = torch.compile(rated, mode="default", dynamic=False) if config.compile else rated
    pixels, labels = train_set.images.to(device), train_set.labels.to(device)
    half = config.amp == "bfloat16" or (config.amp == "auto" and device.type == "cuda")
    steps = max(1, len(train_set) // config.batch_size)
    clock = _Clock(config, began, steps)
    names = [name for name, _ in fed_layers(model)]
    bar = tqdm(total=config.epochs * steps, initial=start * steps, disable=None if progress else True, unit="step")
    epoch, done = start, start / config.epochs
    phase, side, analog = config.phase(done)
    twin = AnalogTwin(model)
    twin.use(analog)
    with bar:
        while done < 1:
            tick = time.perf_counter()
            model.train()
            sums = torch.zeros(3, device=device)
            rate_sum = torch.zeros(len(names), device=device)
            seen = 0
            batches = _augmented(config, train_set, pixels, labels, epoch)
            while seen < steps and (done := clock.done(epoch * steps + seen)) < 1:
                before, (phase, side, analog) = phase, config.phase(done)
                if phase != before:
                    _save_phase(config, out, model, arguments, before, clock)
                    twin.use(analog)
                taken = list(islice(batches, twin.steps if analog else 1))
                # A smaller step would be compiled anew.
                if not taken or (seen and analog and len(taken) < twin.steps):
                    break
                x, y = (torch.cat(parts) for parts in zip(*taken, strict=True))
                lr = _rate(config, done)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                on_grid = grids is not None and done >= 1 - config.grid_share
                if grids is not None and on_grid:
                    grids.push()
                x = resized(x, side).contiguous(memory_format=layout)
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    logits, rates = call(x)
                loss = F.cross_entropy(logits.float(), y, label_smoothing=config.label_smoothing)
                push = F.relu(rates / config.rate_high - 1).square() + F.relu(1 - rates / config.rate_low).square()
                penalty = config.rate_weight * push.sum()
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss + penalty)
                if config.clip:
                    nn.utils.clip_grad_norm_(model.parameters(), config.clip)
                if grids is not None and on_grid:
                    grids.pop()
                optimizer.step()
                with torch.no_grad():
                    sums += torch.stack([loss, penalty, (logits.argmax(1) == y).float().mean()]) * len(taken)
                    rate_sum += rates * len(taken)
                seen += len(taken)
                bar.update(len(taken))
            reset_net(model)
            if not seen:
                break
            epoch += 1
            done = clock.done(epoch * steps)
            loss_mean, penalty_mean, accuracy = (sums / seen).tolist()
            if not math.isfinite(loss_mean):
                raise MeasurementError(f"the loss is {loss_mean} in epoch {epoch - 1}; lower lr={config.lr}")
            line = {
                "epoch": epoch - 1,
                "side": side or train_set.images.shape[-1],
                "analog": analog,
                "lr": lr,
                "loss": loss_mean,
                "penalty": penalty_mean,
                "train_accuracy": accuracy,
                "rates": dict(zip(names, (rate_sum / seen).tolist(), strict=True)),
                "train_s": time.perf_counter() - tick,
            }
            if epoch % config.eval_every == 0:
                twin.use(False)
                line["test_accuracy"], line["test_density"] = evaluate(
                    model, test_set, batch_size=_eval_batch(config), side=config.side
                )
                twin.use(analog)
                bar.set_postfix(loss=f"{loss_mean:.3f}", test=f"{line['test_accuracy']:.4f}")
            with (out / "metrics.jsonl").open("a" if epoch > 1 else "w", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
            if config.minutes is None:
                save_state(out, _identity(config), model, optimizer, epoch)
    twin.use(False)
    train_s = time.perf_counter() - began
    steps_log2 = make_exact(model.eval(), sample.to(device), bits=config.grid_bits or None)
    round_half(model)
    with _float32():
        accuracy, density = evaluate(model, test_set, batch_size=_eval_batch(config), side=config.side)
    record = {
        "model": config.model,
        "dataset": config.dataset,
        "test_accuracy": accuracy,
        "test_images": len(test_set),
        "density": density,
        "steps_log2": steps_log2,
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": epoch,
        "train_s": train_s,
        "config": {k: v for k, v in asdict(config).items() if k not in ("data_path", "out")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": _commit(),
        "command": " ".join(sys.argv),
    }
    save_checkpoint(
        out / "checkpoint.safetensors",
        model,
        name=config.model,
        arguments=arguments,
        record=record,
        compact=bool(config.grid_bits),
    )
    write(out / "checkpoint.json", json.dumps(record, indent=2))
    return record


def _start(config: SpikeTrainConfig, model: nn.Module, images: ImageSet) -> None:
    if config.start == "threshold":
        threshold_start(model)
    if config.init_from is not None:
        load_weights(model, config.model, config.init_from)
        unfold_norms(model, resized(images.normalize(images.images[:64]), config.phase(0)[1]))


def _save_phase(
    config: SpikeTrainConfig, out: Path, model: nn.Module, arguments: dict[str, Any], phase: int, clock: "_Clock"
) -> None:
    """Write the weights at the end of a phase, rounded to float16; the run goes on with its own."""
    stored = copy.deepcopy(model).cpu()
    reset_net(stored)
    round_half(stored)
    side, share = config.phases[phase][:2]
    record = {"phase": phase, "side": side, "share": share, "train_s": time.perf_counter() - clock.began}
    save_checkpoint(out / f"phase{phase}.safetensors", stored, name=config.model, arguments=arguments, record=record)


class _Clock:
    """How far a run is, by its epochs or, with `minutes`, by the time since the first step."""

    def __init__(self, config: SpikeTrainConfig, began: float, steps: int) -> None:
        self.began = began
        self._end = None if config.minutes is None else began + 60 * config.minutes
        self._total = config.epochs * steps
        self._first: float | None = None
        self._calls = 0

    def done(self, step: int) -> float:
        """Return the share that is done before `step`, counted over all epochs."""
        if self._end is None:
            return step / self._total
        self._calls += 1
        # Launches run ahead of the device, more so once everything is compiled.
        if torch.cuda.is_available() and (self._calls < 3 or self._calls % 10 == 0):
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._calls == 1:
            return 0.0
        # The first step compiles: it counts as time, not as progress.
        self._first = self._first or now
        return 1.0 if now >= self._end else (now - self._first) / (self._end - self._first)


def _arguments(config: SpikeTrainConfig, images: ImageSet) -> dict[str, Any]:
    _, channels, side, _ = images.images.shape
    given = {"in_channels": channels, "image_size": config.side or side, "num_classes": len(images.classes)}
    taken = models.arguments(config.model)
    if "image_size" in taken and len({phase[0] for phase in config.phases}) > 1:
        raise ConfigError(f"{config.model} is built for one image size; its phases cannot have several")
    return {**{k: v for k, v in given.items() if k in taken}, **config.model_args}


def _load(config: SpikeTrainConfig, split: str) -> ImageSet:
    if config.dataset == "fashion_mnist":
        return data.fashion_mnist(**({"path": config.data_path} if config.data_path else {}), split=split)
    if config.data_path is None:
        raise ConfigError("data_path is not set; give the folder that holds CIFAR-10 (--data)")
    return data.cifar10(config.data_path, split)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; use 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _optimizer(config: SpikeTrainConfig, model: nn.Module, device: torch.device) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = device.type == "cuda"
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True, fused=fused)
    return torch.optim.AdamW(groups, lr=config.lr, fused=fused)


def _rate(config: SpikeTrainConfig, done: float) -> float:
    """Return the learning rate once the share `done` of the training lies behind."""
    warm = config.warmup_epochs / config.epochs
    if done < warm:
        return config.lr * done / warm + config.lr * 1e-3
    return config.lr * 0.5 * (1 + math.cos(math.pi * (done - warm) / max(1e-9, 1 - warm)))


def _augmented(
    config: SpikeTrainConfig, images: ImageSet, pixels: Tensor, labels: Tensor, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    return augmented(
        images,
        pixels,
        labels,
        batch_size=config.batch_size,
        seed=config.seed * 1_000_003 + epoch,
        crop_padding=config.crop_padding,
        flip=config.flip,
        cutout=config.cutout,
    )


def _eval_batch(config: SpikeTrainConfig) -> int:
    return 500 if (config.side or 32) <= 64 else 100


def _identity(config: SpikeTrainConfig) -> str:
    body = asdict(config)
    for name in ("out", "data_path", "device", "compile", "eval_every"):
        body.pop(name)
    return json.dumps(body, sort_keys=True)


class _float32:
    """Multiply in full float32 inside the block, also where TF32 is on by default."""

    def __enter__(self) -> None:
        self.before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self.before


def _commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
