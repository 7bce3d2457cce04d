"""The training loop of a video transformer: epochs, saved after each, gone on with."""

import json
import math
import time
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from sparseflow.errors import DataError, MeasurementError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.device import multiply_as
from sparseflow.recipes.ranks import ALONE, Ranks
from sparseflow.recipes.train_state import resume, save_state
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.score import score
from sparseflow.recipes.video.sources import Source
from sparseflow.recipes.video.step import SUMS, Step, make_adamw

__all__ = ["fit"]

# cuDNN's has gradients that are not numbers for some lengths, 64 among them: github.com/pytorch/pytorch/issues/196678.
_ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def fit(
    model: VideoViT,
    config: VideoConfig,
    train: Source,
    test: Source | None = None,
    *,
    progress: bool = True,
    ranks: Ranks = ALONE,
) -> list[dict[str, Any]]:
    """Train a model and leave it in eval mode.

    The state is saved after every `config.save_every` epochs in `config.folder`, whole or not at all. A run with the
    same settings goes on from there, and on the CPU ends with the very weights of a run that was never stopped: every
    epoch draws its clips, order and dropout from a seed of its own. Gates of heads, channels and blocks grow harder as
    it goes on.

    Args:
        model: on its device; trained in place.
        config: how.
        train: clips to learn.
        test: scored every `config.eval_every` epochs.
        progress: show a progress bar.
        ranks: the processes that share each step; the first one saves, in a folder that all see.

    Returns:
        One line an epoch: rate, losses, accuracy, shares kept, seconds.

    Raises:
        ConfigError: the run in the folder has other settings, or the processes cannot divide a step.
        DataError: fewer clips than a step takes, a frame that cannot be read, or a damaged state.
        MeasurementError: the loss is no longer finite.
    """
    device = next(model.parameters()).device
    config.folder.mkdir(parents=True, exist_ok=True)
    metrics = config.folder / "metrics.jsonl"
    graph = config.graph and ranks.count == 1
    pruner = model.pruner
    optimizer = make_adamw(
        model, weight_decay=config.weight_decay, graph=graph, gates=(config.gate_lr or 10 * config.lr) / config.lr
    )
    identity = json.dumps(config.to_dict(), sort_keys=True)
    epoch = 0
    for rank in range(ranks.count):
        # One after the other, as each one cuts the lines to those of the state.
        epoch = resume(config.folder, identity, model, optimizer) if rank == ranks.rank else epoch
        ranks.wait()
    lines = [json.loads(text) for text in metrics.read_text(encoding="utf-8").splitlines()] if epoch else []
    share = ranks.share(config.batch_size)
    bar = tqdm(
        total=config.epochs, initial=epoch, unit="epoch", desc=config.title,
        disable=None if progress and ranks.rank == 0 else True,
    )  # fmt: skip
    forked = [device] if device.type == "cuda" else []
    with (
        bar,
        multiply_as(config.precision, device, auto="bfloat16") as cast,
        torch.random.fork_rng(devices=forked),
        sdpa_kernel(_ATTENTION),
    ):
        step = Step(
            model, train, optimizer, parts=config.accumulate, weight=config.ast_weight, hardware=config.hw_weight,
            smoothing=config.label_smoothing, clip=config.clip, cast=cast, graph=config.graph, ranks=ranks,
        )  # fmt: skip
        batches = max(1, train.batches(config.batch_size))
        while epoch < config.epochs:
            tick = time.perf_counter()
            seed = config.seed * 1_000_003 + epoch
            torch.manual_seed(seed * ranks.count + ranks.rank)
            step.restart()
            model.train()
            steps = 0
            for clips, labels in train.epoch(config.batch_size, seed, share):
                # Of videos an epoch may have a few more than that.
                inside = min(steps / batches, 1.0)
                done = (epoch + inside) / config.epochs
                if pruner is not None:
                    pruner.anneal(done)
                    pruner.idle = done < config.prune_from
                step(clips, labels, config.rate(done))
                steps += 1
            if not steps:
                raise DataError(
                    f"{len(train)} clips to train on, and a step takes {config.batch_size}; lower batch_size"
                )
            sums = (ranks.sum(step.sums) / ranks.count / step.steps).tolist()
            line: dict[str, Any] = {
                "epoch": epoch,
                "lr": config.rate((epoch + 1) / config.epochs),
                **dict(zip(SUMS, sums, strict=True)),
                "steps": steps,
                "seconds": time.perf_counter() - tick,
            }
            if not math.isfinite(line["loss"] + line["loss_ast"] + line["flops"]):
                raise MeasurementError(f"the loss is {line['loss']} in epoch {epoch}; lower lr={config.lr}")
            if test is not None and config.eval_every and (epoch + 1) % config.eval_every == 0 and ranks.rank == 0:
                line["test"] = score(model, test, batch_size=config.eval_batch, cast=cast).to_dict()
            lines.append(line)
            if ranks.rank == 0:
                with metrics.open("a" if epoch else "w", encoding="utf-8") as f:
                    f.write(json.dumps(line) + "\n")
            epoch += 1
            if ranks.rank == 0 and (epoch % config.save_every == 0 or epoch == config.epochs):
                save_state(config.folder, identity, model, optimizer, epoch)
            bar.update()
            bar.set_postfix(loss=f"{line['loss']:.3f}", top1=f"{line['top1']:.3f}", keep=f"{line['keep_token']:.2f}")
    if pruner is not None:
        pruner.idle = False
    model.eval()
    return lines
