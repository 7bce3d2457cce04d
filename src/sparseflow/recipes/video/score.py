"""Accuracy of a video transformer over all videos of a test, with its interval, and what its pruner kept."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from sparseflow.errors import MeasurementError
from sparseflow.recipes.video.sources import Source

__all__ = ["Scores", "score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a network reaches.

    Args:
        top1: share of videos whose class has the largest logit, the mean over their clips.
        top5: share of videos whose class is among the five largest.
        low: lower end of Wilson's interval of 95 % about `top1`.
        high: its upper end.
        videos: how many were scored.
        right: how many of them by `top1`.
        clips: how many clips they had.
        keeps: mean share kept of tokens, heads, channels and blocks.
    """

    top1: float
    top5: float
    low: float
    high: float
    videos: int
    right: int
    clips: int
    keeps: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


@torch.no_grad()
def score(
    model: nn.Module, source: Source, *, batch_size: int = 64, cast: Callable[[], Any], videos: int | None = None
) -> Scores:
    """Score a network on all clips of a test, in eval mode; a video's logits are the mean over its clips.

    Args:
        model: from `[B, T, C, S, S]` to logits, with `return_intermediate`.
        source: the test.
        batch_size: clips a call.
        cast: what calls of the network are wrapped in.
        videos: how many the test has; None counts them.

    Raises:
        MeasurementError: a logit is not finite.
    """
    training = model.training
    model.eval()
    count = len(source) if videos is None else videos
    device = next(model.parameters()).device
    total = torch.zeros(count, len(source.classes), device=device)
    truth = torch.zeros(count, dtype=torch.int64, device=device)
    kept: dict[str, Tensor] = {}
    clips = 0
    for x, y, video in source.every(batch_size):
        with cast():
            logits, info = model(source.scale(x), return_intermediate=True)
        at = video.to(device)
        total.index_add_(0, at, logits.float())
        truth[at] = y
        clips += len(y)
        for name, sparsity in info["ast_stats"].items():
            kept[name] = kept.get(name, torch.zeros((), device=device)) + (1 - sparsity.float().mean()) * len(y)
    model.train(training)
    if not bool(torch.isfinite(total).all()):
        raise MeasurementError("a logit is not finite; the weights are damaged, or the training diverged")
    best = total.topk(min(5, total.shape[1]), 1).indices == truth[:, None]
    right, among = int(best[:, 0].sum()), int(best.any(1).sum())
    interval = binomtest(right, count).proportion_ci(0.95, method="wilson")
    return Scores(
        top1=right / count,
        top5=among / count,
        low=float(interval.low),
        high=float(interval.high),
        videos=count,
        right=right,
        clips=clips,
        keeps={name.removeprefix("sparsity_"): float(value) / clips for name, value in kept.items()},
    )
