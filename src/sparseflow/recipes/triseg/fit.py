"""The loop that all trainings share: augmented batches, a clock, evaluations, and the best weights kept."""

import json
import math
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from tqdm import tqdm

from sparseflow.data import ImageSet
from sparseflow.errors import MeasurementError
from sparseflow.ir.files import write_atomic
from sparseflow.recipes.device import multiply_as
from sparseflow.recipes.train_state import resume, save_state
from sparseflow.recipes.triseg.average import Average
from sparseflow.recipes.triseg.config import TrainConfig
from sparseflow.recipes.triseg.step import Guide, Step, layout_of

__all__ = ["accuracy", "fit", "rate"]

_EVAL_BATCH = 500


def rate(config: TrainConfig, done: float) -> float:
    """Return the learning rate as a share of its peak, once the share `done` of the run lies behind.

    >>> [round(rate(TrainConfig(), done), 4) for done in (0.0, 0.3, 0.9)]
    [1.0, 0.1, 0.01]
    """
    if done < config.warmup:
        return done / config.warmup + 1e-3
    if config.schedule == "step":
        return config.gamma ** sum(done >= m for m in config.milestones)
    return 0.5 * (1 + math.cos(math.pi * (done - config.warmup) / (1 - config.warmup)))


@torch.no_grad()
def accuracy(model: nn.Module, images: ImageSet, device: torch.device, *, batch_size: int = _EVAL_BATCH) -> float:
    """Return the share of images whose largest logit is that of their class, in eval mode.

    Args:
        model: from normalised images to logits.
        images: the set.
        device: where the model is.
        batch_size: images a call.
    """
    training = model.training
    model.eval()
    hits = torch.zeros((), dtype=torch.int64, device=device)
    for start in range(0, len(images), batch_size):
        x = images.normalize(images.images[start : start + batch_size].to(device))
        y = images.labels[start : start + batch_size].to(device)
        hits += (model(x.contiguous(memory_format=layout_of(device))).argmax(1) == y).sum()
    model.train(training)
    return int(hits) / len(images)


def fit(
    model: nn.Module,
    config: TrainConfig,
    train: ImageSet,
    val: ImageSet,
    *,
    half: bool = False,
    codes: Iterable[nn.Parameter] = (),
    code_lr: float = 0.0,
    guide: Guide | None = None,
    extra: Callable[[], Tensor] | None = None,
    before_epoch: Callable[[float], bool] | None = None,
    after_step: Callable[[], None] | None = None,
    may_keep: Callable[[float], bool] | None = None,
    kept: Callable[[nn.Module, dict[str, Any]], None] | None = None,
    judge_start: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a model and leave it with the weights that did best on `val`.

    The state is saved after every epoch in `config.folder`, whole or not at all, and a run with the same settings
    goes on from there; a run by `minutes` starts afresh. The best weights are written whenever they are beaten.

    Args:
        model: on its device; trained in place.
        config: how.
        train: images to train on.
        val: images that decide which epoch is kept.
        half: whether "auto" precision on CUDA is bfloat16; else it is TF32.
        codes: parameters in units of codes, which are trained at a rate of their own.
        code_lr: that rate, at its peak.
        guide: what `config.kd_weight` of the loss learns from.
        extra: returns what is added to the loss, once model and guide have seen a batch.
        before_epoch: told the share that is done before an epoch; returns whether it changed what a step does.
        after_step: called after a step, as to move codes back into their order; reads nothing back from the device.
        may_keep: tells from the share that is done whether an epoch's weights may be kept; any if None.
        kept: called with the model, in eval mode, whenever an epoch was the best, and the epoch's line.
        judge_start: the model as it comes is a candidate too, so that training cannot end below it on `val`.
        progress: show a progress bar.

    Returns:
        One line an epoch: loss, accuracies, the best so far, seconds.

    Raises:
        ConfigError: the run in the folder has other settings.
        DataError: its saved state is damaged.
        MeasurementError: the loss is no longer finite.
    """
    began = time.perf_counter()
    device = next(model.parameters()).device
    config.folder.mkdir(parents=True, exist_ok=True)
    optimizer = _optimizer(config, model, list(codes), code_lr)
    identity = json.dumps({"stage": config.stage} | config.to_dict(), sort_keys=True)
    average = Average(model, config.ema) if config.ema else None
    whole = model if average is None else nn.ModuleDict({"model": model, "average": average})
    epoch = resume(config.folder, identity, whole, optimizer) if config.minutes is None else 0
    lines = _lines(config, epoch)
    size = min(config.batch_size, len(train))
    steps = max(1, len(train) // size)
    total = config.epochs * steps
    best = lines[-1]["best"] if lines else -1.0
    bar = tqdm(total=total, initial=epoch * steps, disable=None if progress else True, unit="step", desc=config.stage)

    def done(step: int) -> float:
        if config.minutes is None:
            return min(1.0, step / total)
        return min(1.0, (time.perf_counter() - began) / (60 * config.minutes))

    def after() -> None:
        if after_step is not None:
            after_step()
        if average is not None:
            average.update()

    with (
        bar,
        multiply_as(config.precision, device, auto="bfloat16" if half else "tf32") as cast,
        torch.random.fork_rng(devices=_cuda(device)),
    ):
        if judge_start and not epoch:
            with cast():
                best = accuracy(model, val, device)
            _write_best(config, model)
            if kept is not None:
                kept(model.eval(), {"epoch": -1, "val": best})
        step = Step(model, config, train, optimizer, size=size, cast=cast, guide=guide, extra=extra, after=after)
        calm = False
        share = done(epoch * steps)
        # Starting may take all of the time there is; one step is always made.
        while share < 1 or epoch == 0:
            tick = time.perf_counter()
            torch.manual_seed(config.seed * 1_000_003 + epoch)
            changed = before_epoch is not None and before_epoch(share)
            if calm != (share >= 1 - config.calm):
                step.calm = calm = not calm
                changed = True
            model.train()
            step.restart(capture=changed)
            for index in step.order():
                lr = rate(config, share)
                step(index, lr)
                share = done(epoch * steps + step.steps)
                bar.update()
                if share >= 1:
                    break
            epoch += 1
            mean, hits = (step.sums / step.steps).tolist()
            if not math.isfinite(mean):
                raise MeasurementError(f"the loss is {mean} in epoch {epoch - 1}; lower lr={config.lr}")
            line: dict[str, Any] = {
                "epoch": epoch - 1,
                "done": share,
                "lr": lr * config.lr,
                "loss": mean,
                "train": hits,
            }
            if epoch % config.eval_every == 0 or share >= 1:
                with nullcontext() if average is None else average.applied(after_step):
                    with cast():
                        line["val"] = accuracy(model, val, device)
                    line["kept"] = line["val"] >= best and (may_keep is None or may_keep(share))
                    if line["kept"]:
                        best = line["val"]
                        _write_best(config, model)
                        if kept is not None:
                            kept(model.eval(), line)
                bar.set_postfix(loss=f"{mean:.3f}", val=f"{line['val']:.4f}")
            line |= {"best": best, "seconds": time.perf_counter() - tick}
            lines.append(line)
            with (config.folder / "metrics.jsonl").open("a" if len(lines) > 1 else "w", encoding="utf-8") as f:
                f.write(json.dumps(line) + "\n")
            if config.minutes is None:
                save_state(config.folder, identity, whole, optimizer, epoch)
    if best >= 0:
        model.load_state_dict({k: v.to(device) for k, v in load_file(config.folder / "best.safetensors").items()})
    model.eval()
    return lines


def _optimizer(
    config: TrainConfig, model: nn.Module, codes: list[nn.Parameter], code_lr: float
) -> torch.optim.Optimizer:
    apart = {id(p) for p in codes}
    weights = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.ndim > 1], "weight_decay": config.weight_decay, "peak": config.lr},
        {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0, "peak": config.lr},
        {"params": codes, "weight_decay": 0.0, "peak": code_lr},
    ]
    groups = [group for group in groups if group["params"]]
    on_cuda = weights[0].is_cuda
    if on_cuda and config.graph:
        # A graph repeats numbers of the host, but reads tensors of the device anew.
        for group in groups:
            group["lr"] = torch.tensor(float(group["peak"]), device=weights[0].device)
    fused = on_cuda or None
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr, fused=fused, capturable=on_cuda and config.graph)
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused)


def _lines(config: TrainConfig, epoch: int) -> list[dict[str, Any]]:
    metrics = config.folder / "metrics.jsonl"
    if not epoch:
        (config.folder / "best.safetensors").unlink(missing_ok=True)
        return []
    return [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()[:epoch]]


def _write_best(config: TrainConfig, model: nn.Module) -> None:
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    write_atomic(config.folder / "best.safetensors", save(tensors))


def _cuda(device: torch.device) -> list[torch.device]:
    return [device] if device.type == "cuda" else []
