"""Train a spiking network on real images, sparse but alive, and write its checkpoint.

Loss = cross entropy with label smoothing + rate_weight · Σ over layers of
relu(r / rate_high - 1)² + relu(1 - r / rate_low)², r the mean of a layer's input
spikes. The first term keeps layers cheap to run event by event, the second keeps
them alive.
"""

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from tqdm import tqdm

from sparseflow import data
from sparseflow.data import ImageSet
from sparseflow.errors import ConfigError, DataError, MeasurementError
from sparseflow.nn import models
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models import load_checkpoint, save_checkpoint
from sparseflow.nn.models.checkpoint import round_half
from sparseflow.recipes.exact import make_exact

__all__ = ["SpikeTrainConfig", "evaluate", "load_checkpoint", "train"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeTrainConfig:
    """One training run.

    Args:
        model: name for `nn.models.build`.
        model_args: its arguments; channels, size and classes follow from the images.
        dataset: "cifar10" or "fashion_mnist".
        data_path: folder of the data set; None takes the data set's default place.
        out: folder for `checkpoint.safetensors`, `state.safetensors` and `metrics.jsonl`.
        epochs: passes over the training images.
        batch_size: images a step.
        optimizer: "sgd" (Nesterov momentum 0.9) or "adamw".
        lr: peak learning rate: linear warm-up, then cosine to zero.
        weight_decay: on weights of two or more dimensions.
        warmup_epochs: epochs of warm-up.
        label_smoothing: share of the target spread over all classes.
        crop_padding: random crop after padding by so many pixels; 0 for none.
        flip: mirror half of the images.
        cutout: side of the square that is blanked; 0 for none.
        rate_low: input density below which a layer is pushed up.
        rate_high: input density above which a layer is pushed down.
        rate_weight: weight of both pushes; 0 for none.
        amp: "bfloat16", "none", or "auto" for bfloat16 on CUDA only.
        compile: compile the training step.
        device: "auto", "cpu" or "cuda".
        seed: seed of weights, order and augmentation.
        eval_every: epochs between evaluations; the last is always evaluated.
        train_limit: use only the first so many training images.
        test_limit: use only the first so many test images.

    Raises:
        ConfigError: a value out of range.
    """

    model: str = "spiking_vgg9"
    model_args: dict[str, Any] = field(default_factory=dict)
    dataset: str = "cifar10"
    data_path: str | None = None
    out: str = "runs/train"
    epochs: int = 100
    batch_size: int = 256
    optimizer: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    warmup_epochs: float = 3.0
    label_smoothing: float = 0.1
    crop_padding: int = 4
    flip: bool = True
    cutout: int = 8
    rate_low: float = 0.03
    rate_high: float = 0.06
    rate_weight: float = 0.05
    amp: str = "auto"
    compile: bool = False
    device: str = "auto"
    seed: int = 0
    eval_every: int = 5
    train_limit: int | None = None
    test_limit: int | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.model not in models.names():
            raise ConfigError(f"model is {self.model!r}; expected one of {', '.join(models.names())}")
        choices = {
            "dataset": ("cifar10", "fashion_mnist"),
            "optimizer": ("sgd", "adamw"),
            "amp": ("auto", "bfloat16", "none"),
            "device": ("auto", "cpu", "cuda"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(allowed)}")
        for name in ("epochs", "batch_size", "lr", "eval_every"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected more than 0")
        for name in ("weight_decay", "warmup_epochs", "label_smoothing", "crop_padding", "cutout", "rate_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected 0 or more")
        if not 0 < self.rate_low < self.rate_high < 1:
            raise ConfigError(
                f"rate_low={self.rate_low}, rate_high={self.rate_high}; expected 0 < rate_low < rate_high < 1"
            )

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str]) -> "SpikeTrainConfig":
        """Read a configuration file.

        Raises:
            ConfigError: unreadable, not a mapping, or an unknown or ill-typed setting.
        """
        try:
            body = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as e:
            raise ConfigError(f"cannot read {path}: {e}") from e
        if not isinstance(body, dict):
            raise ConfigError(f"{path} holds no settings; expected lines as 'epochs: 100'")
        known = [f.name for f in fields(cls)]
        unknown = [str(k) for k in body if k not in known]
        if unknown:
            raise ConfigError(f"{path} has unknown settings {', '.join(unknown)}; known: {', '.join(known)}")
        try:
            return cls(**body)
        except TypeError as e:
            raise ConfigError(f"{path}: {e}") from e


class _Rated(nn.Module):
    """The network together with the mean input of every spike-fed layer."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.rates: list[Tensor] = []
        for _, layer in fed_layers(model):
            layer.register_forward_pre_hook(self._note)

    def _note(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.rates.append(inputs[0].float().mean())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.rates = []
        logits = self.model(x)
        rates = torch.stack(self.rates)
        self.rates = []
        return logits, rates


def fed_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the convolutions and linear layers after the first, which spikes feed."""
    fed = (nn.Conv2d, nn.Linear)
    return [(name, module) for name, module in model.named_modules() if issubclass(type(module), fed)][1:]


def evaluate(model: nn.Module, images: ImageSet, *, batch_size: int = 500) -> tuple[float, dict[str, float]]:
    """Return the top-1 accuracy and the input density of every spike-fed layer.

    Runs in float32 on the device of the model's weights.

    Args:
        model: a network; it is left in eval mode and reset.
        images: labelled images.
        batch_size: images a forward.
    """
    device = next(model.parameters()).device
    counts: dict[str, list[Tensor]] = {name: [] for name, _ in fed_layers(model)}
    total: dict[str, int] = dict.fromkeys(counts, 0)

    def hook(name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            counts[name].append(torch.count_nonzero(inputs[0]))
            total[name] += inputs[0].numel()

        return note

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in fed_layers(model)]
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    try:
        with torch.inference_mode():
            for x, y in images.batches(batch_size):
                reset_net(model)
                right += (model(x.to(device)).argmax(1) == y.to(device)).sum()
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    density = {name: float(torch.stack(c).sum()) / total[name] for name, c in counts.items()}
    return int(right) / len(images), density


def train(config: SpikeTrainConfig, *, progress: bool = True) -> dict[str, Any]:
    """Train, or go on where a run in `config.out` stopped, and write the checkpoint.

    The state is saved after every epoch, whole or not at all; Ctrl-C or a kill loses
    at most the epoch in progress. The checkpoint's weights are float16 values on exact
    grids (see `make_exact`), and the accuracy in its record is theirs.

    Args:
        config: what to do.
        progress: show a progress bar.

    Returns:
        The record: accuracy, density by layer, configuration, device, versions, commit.

    Raises:
        ConfigError: no such device, or the run in `out` has another configuration.
        DataError: the images or the saved state cannot be read.
        MeasurementError: the loss is no longer finite.
    """
    device = _device(config.device)
    train_set = _load(config, "train").take(config.train_limit)
    test_set = _load(config, "test").take(config.test_limit)
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        arguments = _arguments(config, train_set)
        model = models.build(config.model, **arguments)
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    optimizer = _optimizer(config, model)
    start = _resume(config, out, model, optimizer)
    rated = _Rated(model)
    call = torch.compile(rated, mode="default") if config.compile else rated
    pixels, labels = train_set.images.to(device), train_set.labels.to(device)
    half = config.amp == "bfloat16" or (config.amp == "auto" and device.type == "cuda")
    steps = max(1, len(train_set) // config.batch_size)
    names = [name for name, _ in fed_layers(model)]
    began = time.perf_counter()
    bar = tqdm(total=config.epochs * steps, initial=start * steps, disable=None if progress else True, unit="step")
    with bar:
        for epoch in range(start, config.epochs):
            tick = time.perf_counter()
            model.train()
            sums = torch.zeros(3, device=device)
            rate_sum = torch.zeros(len(names), device=device)
            for i, (x, y) in enumerate(_augmented(config, train_set, pixels, labels, epoch)):
                lr = _rate(config, epoch * steps + i, steps)
                for group in optimizer.param_groups:
                    group["lr"] = lr
                reset_net(model)
                with torch.autocast(device.type, torch.bfloat16, enabled=half):
                    logits, rates = call(x.contiguous(memory_format=layout))
                loss = F.cross_entropy(logits.float(), y, label_smoothing=config.label_smoothing)
                push = F.relu(rates / config.rate_high - 1).square() + F.relu(1 - rates / config.rate_low).square()
                penalty = config.rate_weight * push.sum()
                optimizer.zero_grad(set_to_none=True)
                torch.autograd.backward(loss + penalty)
                optimizer.step()
                with torch.no_grad():
                    sums += torch.stack([loss, penalty, (logits.argmax(1) == y).float().mean()])
                    rate_sum += rates
                bar.update()
            reset_net(model)
            loss_mean, penalty_mean, accuracy = (sums / steps).tolist()
            if not math.isfinite(loss_mean):
                raise MeasurementError(f"the loss is {loss_mean} in epoch {epoch}; lower lr={config.lr}")
            line = {
                "epoch": epoch,
                "lr": lr,
                "loss": loss_mean,
                "penalty": penalty_mean,
                "train_accuracy": accuracy,
                "rates": dict(zip(names, (rate_sum / steps).tolist(), strict=True)),
                "train_s": time.perf_counter() - tick,
            }
            if (epoch + 1) % config.eval_every == 0:
                line["test_accuracy"], line["test_density"] = evaluate(model, test_set)
                bar.set_postfix(loss=f"{loss_mean:.3f}", test=f"{line['test_accuracy']:.4f}")
            with (out / "metrics.jsonl").open("a", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
            _save_state(config, out, model, optimizer, epoch + 1)
    reset_net(model)
    steps_log2 = make_exact(model.eval(), test_set.normalize(test_set.images[:2].to(device)))
    round_half(model)
    with _float32():
        accuracy, density = evaluate(model, test_set)
    record = {
        "model": config.model,
        "dataset": config.dataset,
        "test_accuracy": accuracy,
        "test_images": len(test_set),
        "density": density,
        "steps_log2": steps_log2,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_s": time.perf_counter() - began,
        "config": {k: v for k, v in asdict(config).items() if k not in ("data_path", "out")},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "commit": _commit(),
        "command": " ".join(sys.argv),
    }
    save_checkpoint(out / "checkpoint.safetensors", model, name=config.model, arguments=arguments, record=record)
    _write(out / "checkpoint.json", json.dumps(record, indent=2))
    return record


def _arguments(config: SpikeTrainConfig, images: ImageSet) -> dict[str, Any]:
    _, channels, side, _ = images.images.shape
    given = {"in_channels": channels, "image_size": side, "num_classes": len(images.classes)}
    taken = models.arguments(config.model)
    return {**{k: v for k, v in given.items() if k in taken}, **config.model_args}


def _load(config: SpikeTrainConfig, split: str) -> ImageSet:
    if config.dataset == "fashion_mnist":
        return data.fashion_mnist(**({"path": config.data_path} if config.data_path else {}), split=split)
    if config.data_path is None:
        raise ConfigError("data_path is not set; give the folder that holds CIFAR-10")
    return data.cifar10(config.data_path, split)


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is 'cuda', but torch sees no CUDA device; use 'cpu' or 'auto'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _optimizer(config: SpikeTrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr)


def _rate(config: SpikeTrainConfig, step: int, steps: int) -> float:
    warm, total = config.warmup_epochs * steps, config.epochs * steps
    if step < warm:
        return config.lr * (step + 1) / (warm + 1)
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1.0, total - warm)))


def _augmented(
    config: SpikeTrainConfig, images: ImageSet, pixels: Tensor, labels: Tensor, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield shuffled, augmented batches; one generator an epoch, so that a resumed run repeats them."""
    device = pixels.device
    g = torch.Generator(device=device).manual_seed(config.seed * 1_000_003 + epoch)
    order = torch.randperm(len(labels), generator=g, device=device)
    side, pad = pixels.shape[-1], config.crop_padding
    grid = torch.arange(side, device=device)
    channel = torch.arange(pixels.shape[1], device=device).view(1, -1, 1, 1)
    # A smaller last batch would be compiled anew, so it is left out.
    whole = len(order) - len(order) % config.batch_size or len(order)
    for index in torch.split(order[:whole], config.batch_size):
        n = len(index)
        draw = torch.rand(5, n, 1, generator=g, device=device)
        rows = grid + (draw[0] * (2 * pad + 1)).long()
        columns = grid + (draw[1] * (2 * pad + 1)).long()
        if config.flip:
            columns = torch.where(draw[2] < 0.5, columns.flip(1), columns)
        x = F.pad(images.normalize(pixels[index]), (pad,) * 4)
        which = torch.arange(n, device=device).view(-1, 1, 1, 1)
        x = x[which, channel, rows[:, None, :, None], columns[:, None, None, :]]
        if config.cutout:
            half = config.cutout / 2
            hit_rows = (grid + 0.5 - draw[3] * side).abs() < half
            hit_columns = (grid + 0.5 - draw[4] * side).abs() < half
            x = x.masked_fill((hit_rows[:, :, None] & hit_columns[:, None, :]).unsqueeze(1), 0.0)
        yield x, labels[index]


def _identity(config: SpikeTrainConfig) -> str:
    body = asdict(config)
    for name in ("out", "data_path", "device", "compile", "eval_every"):
        body.pop(name)
    return json.dumps(body, sort_keys=True)


def _save_state(
    config: SpikeTrainConfig, out: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epoch: int
) -> None:
    tensors = {f"model.{k}": v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{key}"] = value.detach().cpu().contiguous()
    partial = out / ".state.safetensors.partial"
    partial.write_bytes(save(tensors, {"config": _identity(config), "epoch": str(epoch)}))
    partial.replace(out / "state.safetensors")


def _resume(config: SpikeTrainConfig, out: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the state in `out`, if there is one, and return the epoch to go on with."""
    path = out / "state.safetensors"
    if not path.exists():
        (out / "metrics.jsonl").unlink(missing_ok=True)
        return 0
    try:
        with safe_open(path, framework="pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
        epoch = int(meta["epoch"])
        identity = meta["config"]
    except (SafetensorError, OSError, KeyError, ValueError) as e:
        raise DataError(f"{path} is damaged: {e}; remove it to start again") from e
    if identity != _identity(config):
        raise ConfigError(f"{out} holds a run with another configuration; choose another folder or remove it")
    model.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    body = optimizer.state_dict()
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".")
            body["state"].setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(body)
    metrics = out / "metrics.jsonl"
    lines = metrics.read_text(encoding="utf-8").splitlines(keepends=True) if metrics.exists() else []
    _write(metrics, "".join(lines[:epoch]))
    return epoch


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


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
