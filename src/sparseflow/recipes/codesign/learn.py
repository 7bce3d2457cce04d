"""Phase A of a co-design: weights and shares learn from the task, from their targets, and from the hardware's bill."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.errors import DataError, MeasurementError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.video.config import VideoConfig
from sparseflow.recipes.video.sources import Source
from sparseflow.recipes.video.step import make_adamw

__all__ = ["Guard", "Learned", "Learner"]

_SMOOTH = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """Means over the steps of a phase: loss, its three parts, and the accuracy on training clips."""

    loss: float
    loss_task: float
    loss_ast: float
    loss_hw: float
    top1: float


class Guard:
    """Watches the accuracy on training clips; where it falls, the hardware has to wait.

    Args:
        allowed: share by which it may fall below what it was when it was locked.
    """

    def __init__(self, allowed: float) -> None:
        self.allowed = allowed
        self.smooth: float | None = None
        self.locked: float | None = None

    def see(self, top1: float) -> None:
        """Take in the accuracy of a step."""
        self.smooth = top1 if self.smooth is None else _SMOOTH * self.smooth + (1 - _SMOOTH) * top1

    def lock(self) -> None:
        """Take the smoothed accuracy as what must be held, once; later it only rises."""
        if self.smooth is not None:
            self.locked = self.smooth if self.locked is None else max(self.locked, self.smooth)

    @property
    def holds(self) -> bool:
        """Whether the accuracy is high enough; true before it is locked."""
        return self.locked is None or self.smooth is None or self.smooth >= self.locked - self.allowed


class Learner:
    """Steps of AdamW on cross entropy + λ_AST·L_AST + λ_hw·L_hw.

    Args:
        model: with a pruner; trained in place.
        config: rates, batch and weights of the task.
        source: clips to learn.
        cast: what calls of the network are wrapped in.
        steps: of all phases together, over which the rate falls.
    """

    def __init__(
        self, model: VideoViT, config: VideoConfig, source: Source, *, cast: Callable[[], object], steps: int
    ) -> None:
        self.model, self.config, self.source, self.cast, self.steps = model, config, source, cast, steps
        gates = (config.gate_lr or 10 * config.lr) / config.lr
        self.optimizer = make_adamw(model, weight_decay=config.weight_decay, graph=False, gates=gates)
        self.done = 0
        self._clips = self._endless()

    def close(self) -> None:
        """Close gates for good and leave tokens behind from now on, as many as are kept now."""
        pruner = self.model.pruner
        if pruner is None:
            return
        pruner.harden()
        pruner.config = replace(pruner.config, gate="hard")
        if pruner.keep_logits is not None:
            pruner.keep_logits.requires_grad_(False)

    def phase(
        self, steps: int, bill: Callable[[], Tensor] | None, factor: Callable[[float], float], guard: Guard
    ) -> Learned:
        """Learn for some steps, and return their means.

        Args:
            steps: how many.
            bill: returns L_hw of the shares that the network keeps now, with gradients; None leaves it out.
            factor: λ_hw by the share of all steps that is done.
            guard: sees every step; where it does not hold, λ_hw is 0.

        Raises:
            DataError: fewer clips than a step takes.
            MeasurementError: the loss is no longer finite.
        """
        model, device = self.model, next(self.model.parameters()).device
        model.train()
        sums = torch.zeros(5, device=device, dtype=torch.float64)
        for _ in range(steps):
            clips, labels = next(self._clips)
            done = self.done / self.steps
            if model.pruner is not None:
                model.pruner.anneal(done)
            for group in self.optimizer.param_groups:
                group["lr"] = self.config.rate(done) * group["times"]
            with self.cast():  # type: ignore[attr-defined]
                logits, info = model(self.source.scale(clips), return_intermediate=True)
            task = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
            ast = torch.zeros((), device=device) + info["L_AST"].float()
            weight = factor(done) if guard.holds else 0.0
            hw = torch.zeros((), device=device)
            if bill is not None and weight > 0:
                hw = bill().to(device).float()
            loss = task + self.config.ast_weight * ast + weight * hw
            loss.backward()
            if self.config.clip:
                nn.utils.clip_grad_norm_(model.parameters(), self.config.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            right = (logits.detach().argmax(1) == labels).double().mean()
            sums += torch.stack([x.detach().double() for x in (loss, task, ast, hw, right)])
            guard.see(float(right))
            self.done += 1
        means = (sums / steps).tolist()
        if not all(map(math.isfinite, means)):
            raise MeasurementError(f"the loss is {means[0]} after {self.done} steps; lower lr={self.config.lr}")
        model.eval()
        return Learned(loss=means[0], loss_task=means[1], loss_ast=means[2], loss_hw=means[3], top1=means[4])

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            seed, empty = self.config.seed * 1_000_003 + epoch, True
            for batch in self.source.epoch(self.config.batch_size, seed):
                empty = False
                yield batch
            if empty:
                raise DataError(f"{len(self.source)} clips to train on, fewer than a step takes; lower batch_size")
            epoch += 1
