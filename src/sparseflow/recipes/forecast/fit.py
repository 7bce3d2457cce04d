"""The training loop of a forecaster: epochs until the loss on val stops falling, saved after each, gone on with."""

import copy
import json
import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from sparseflow.errors import DataError, MeasurementError
from sparseflow.recipes.device import multiply_as
from sparseflow.recipes.forecast.config import ForecastConfig
from sparseflow.recipes.forecast.dataset import Pool, Task
from sparseflow.recipes.forecast.step import Step, make_adam
from sparseflow.recipes.ranks import ALONE, Ranks
from sparseflow.recipes.train_state import resume, save_state

__all__ = ["fit", "has_stopped", "val_loss"]


class _Run(nn.Module):
    """What a run must remember beside its optimizer: the weights, their running mean if any, and the best so far."""

    def __init__(self, model: nn.Module, ema: float) -> None:
        super().__init__()
        self.model, self.best = model, copy.deepcopy(model)
        self.mean = copy.deepcopy(model) if ema else None
        self.ema = ema

    @property
    def judged(self) -> nn.Module:
        """The network that val judges."""
        judged: nn.Module = self.model if self.mean is None else self.mean
        return judged

    def follow(self) -> Callable[[], None] | None:
        """Return what takes the mean one step on; None where there is none."""
        if self.mean is None:
            return None
        mean, now = list(self.mean.parameters()), list(self.model.parameters())
        on = get_ema_multi_avg_fn(self.ema)  # type: ignore[no-untyped-call]
        return lambda: on(mean, now, None)


def has_stopped(losses: list[float], patience: int) -> bool:
    """Tell whether `patience` epochs in a row were worse on val than the best before them.

    >>> has_stopped([3.0, 1.0, 2.0, 1.0], 2), has_stopped([3.0, 1.0, 2.0, 1.5], 2)
    (False, True)
    """
    best, waited = math.inf, 0
    for loss in losses:
        waited = 0 if loss <= best else waited + 1
        best = min(best, loss)
    return waited >= patience


@torch.no_grad()
def val_loss(model: nn.Module, pool: Pool, targets: tuple[int, ...], batch_size: int, ranks: Ranks = ALONE) -> float:
    """Return the mean absolute error over all windows, in eval mode; each process takes its share of them."""
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    chosen = torch.tensor(targets, device=device)
    total = torch.zeros((), dtype=torch.float64, device=device)
    for index in torch.split(torch.arange(ranks.rank, len(pool), ranks.count, device=device), batch_size):
        x, y = pool.take(index)
        forecast: Tensor = model(x)
        total += F.l1_loss(forecast.float()[:, chosen], y[:, chosen], reduction="sum").double() / y[0, chosen].numel()
    model.train(training)
    return float(ranks.sum(total)) / len(pool)


def fit(
    model: nn.Module, config: ForecastConfig, task: Task, *, progress: bool = True, ranks: Ranks = ALONE
) -> list[dict[str, Any]]:
    """Train a model and leave it, in eval mode, with the weights that did best on val.

    The state is saved after every epoch in `config.folder`, whole or not at all. A run with the same settings goes on
    from there, and on the CPU ends with the very weights of a run that was never stopped.

    Args:
        model: on its device; trained in place.
        config: how.
        task: what is learned.
        progress: show a progress bar.
        ranks: the processes that share each step; the first one saves, in a folder that all see.

    Returns:
        One line an epoch: rate, losses, seconds.

    Raises:
        ConfigError: the run in the folder has other settings, or the processes cannot divide a step.
        DataError: fewer windows than a step takes, or a damaged state.
        MeasurementError: the loss is no longer finite.
    """
    device = next(model.parameters()).device
    train, val = task.part("train").to(device), task.part("val").to(device)
    windows = len(train) if config.train_limit is None else min(config.train_limit, len(train))
    if windows < config.batch_size:
        raise DataError(f"{windows} windows to train on, and a step takes {config.batch_size}; lower batch_size")
    config.folder.mkdir(parents=True, exist_ok=True)
    metrics = config.folder / "metrics.jsonl"
    run = _Run(model, config.ema)
    optimizer = make_adam(model, config.lr, graph=config.graph and ranks.count == 1)
    identity = json.dumps(config.to_dict(), sort_keys=True)
    epoch = 0
    for rank in range(ranks.count):
        # One after the other, as each one cuts the lines to those of the state.
        epoch = resume(config.folder, identity, run, optimizer) if rank == ranks.rank else epoch
        ranks.wait()
    lines = [json.loads(text) for text in metrics.read_text(encoding="utf-8").splitlines()] if epoch else []
    steps = windows // config.batch_size
    bar = tqdm(
        total=config.epochs * steps, initial=epoch * steps, unit="step",
        disable=None if progress and ranks.rank == 0 else True, desc=config.name,
    )  # fmt: skip
    forked = [device] if device.type == "cuda" else []
    with bar, multiply_as(config.precision, device) as cast, torch.random.fork_rng(devices=forked):
        step = Step(
            model, train, optimizer, size=config.batch_size, sigma=config.sigma, targets=task.targets, cast=cast,
            graph=config.graph, after=run.follow(), ranks=ranks,
        )  # fmt: skip
        while epoch < config.epochs and not has_stopped([line["val"] for line in lines], config.patience):
            tick = time.perf_counter()
            # Each epoch draws from a seed of its own, so that one that is taken up again draws the same.
            step.restart(config.seed * 1_000_003 + epoch)
            model.train()
            for index in step.order(windows):
                step(index, config.rate(epoch))
                bar.update()
            loss = float(ranks.sum(step.loss)) / ranks.count / step.steps
            if run.mean is not None and epoch == 0:
                # Of the first epoch the mean would remember the random weights.
                run.mean.load_state_dict(model.state_dict())
            with cast():
                chosen = val_loss(run.judged, val, task.targets, config.eval_batch, ranks)
            if not (math.isfinite(loss) and math.isfinite(chosen)):
                raise MeasurementError(f"the loss is {loss} in epoch {epoch}, on val {chosen}; lower lr={config.lr}")
            kept = chosen <= min((line["val"] for line in lines), default=math.inf)
            if kept:
                run.best.load_state_dict(run.judged.state_dict())
            lines.append(
                {
                    "epoch": epoch,
                    "lr": config.rate(epoch),
                    "loss": loss,
                    "val": chosen,
                    "kept": kept,
                    "seconds": time.perf_counter() - tick,
                }
            )
            if ranks.rank == 0:
                with metrics.open("a" if epoch else "w", encoding="utf-8") as f:
                    f.write(json.dumps(lines[-1]) + "\n")
            epoch += 1
            if ranks.rank == 0:
                save_state(config.folder, identity, run, optimizer, epoch)
            bar.set_postfix(loss=f"{loss:.4f}", val=f"{chosen:.4f}")
    model.load_state_dict(run.best.state_dict())
    model.eval()
    return lines
