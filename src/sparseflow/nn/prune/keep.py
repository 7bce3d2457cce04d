"""Which tokens stay: exactly k of a sample, some of every time, and the soft form for training."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["hard_mask", "kept_count", "log_soft_gate", "priority", "threshold", "top_tokens"]


def kept_count(share: float, total: int) -> int:
    """Return k = max(1, ⌊share·total⌋); a share such as .29 of 100 counts as 29 despite its rounding.

    >>> kept_count(0.5, 1568), kept_count(0.29, 100), kept_count(0.001, 10)
    (784, 29, 1)
    """
    return max(1, math.floor(share * total + 1e-6))


def priority(score: Tensor, min_keep_frame: int) -> Tensor:
    """Lift the best `min_keep_frame` tokens of each time above all others, `[B, T, N]`; order stays within both groups.

    Args:
        score: `[B, T, N]`.
        min_keep_frame: tokens of each time to lift, at most N.
    """
    least = min(min_keep_frame, score.shape[2])
    if least == 0:
        return score
    given = score.detach()
    if least == 1:
        best = given.argmax(2, keepdim=True)
    else:
        best = given.sort(dim=2, descending=True, stable=True).indices[..., :least]
    lifted = torch.zeros_like(score).scatter(2, best, 1.0)
    span = given.amax((1, 2), keepdim=True) - given.amin((1, 2), keepdim=True) + 1
    return score + lifted * span


def top_tokens(score: Tensor, k: int, *, ascending: bool = True) -> Tensor:
    """Return the places `[B, k]` of the k largest of each sample; of equals the earlier ones.

    Args:
        score: `[B, L]`.
        k: at most L.
        ascending: in the order of places; else the largest first, which saves a sort.

    >>> top_tokens(torch.tensor([[1.0, 3.0, 3.0, 3.0]]), 2)
    tensor([[1, 2]])
    """
    best = score.sort(dim=1, descending=True, stable=True).indices[:, :k]
    return best.sort(dim=1).values if ascending else best


def hard_mask(score: Tensor, k: int) -> Tensor:
    """Return a mask `[B, L]` of ones at the k largest of each sample and zeros elsewhere, in the type of `score`."""
    return torch.zeros_like(score).scatter(1, top_tokens(score, k, ascending=False), 1.0)


def threshold(score: Tensor, k: float | Tensor) -> Tensor:
    """Return θ `[B, 1]`, the k-th largest of each sample; between two places in line, so that θ has a gradient in k.

    Args:
        score: `[B, L]`.
        k: a number from 1 to L, or a tensor without dimensions.

    >>> threshold(torch.tensor([[1.0, 4.0, 2.0]]), 2), threshold(torch.tensor([[1.0, 4.0, 2.0]]), 1.5)
    (tensor([[2.]]), tensor([[3.]]))
    """
    line = score.sort(dim=1, descending=True).values
    if isinstance(k, Tensor):
        place = (k - 1).clamp(0, score.shape[1] - 1).to(score.dtype)
        low = place.detach().floor().long()
        high = (low + 1).clamp(max=score.shape[1] - 1)
        below, above = line.index_select(1, low.view(1)), line.index_select(1, high.view(1))
        return below + (place - low) * (above - below)
    low_place = min(max(k - 1, 0.0), score.shape[1] - 1.0)
    first = math.floor(low_place)
    second = min(first + 1, score.shape[1] - 1)
    return line[:, first : first + 1].lerp(line[:, second : second + 1], low_place - first)


def log_soft_gate(score: Tensor, theta: Tensor, temp: float) -> Tensor:
    """Return log m, m = σ((score − θ) / temp), which added to attention logits weighs each token by m.

    >>> log_soft_gate(torch.tensor([[1.0]]), torch.tensor([[1.0]]), 0.1).exp()
    tensor([[0.5000]])
    """
    return F.logsigmoid((score - theta) / temp)
