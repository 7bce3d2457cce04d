"""Other ways to say which tokens matter, to compare with."""

import math

import torch
from torch import Tensor

__all__ = ["attention_score", "random_score", "uniform_places"]


def uniform_places(length: int, k: int, device: torch.device | None = None) -> Tensor:
    """Return k evenly spaced places `[k]` of `length`: ⌊(2i + 1)·length / 2k⌋.

    >>> uniform_places(8, 4).tolist(), uniform_places(7, 3).tolist()
    ([1, 3, 5, 7], [1, 3, 5])
    """
    return (2 * torch.arange(k, device=device) + 1) * length // (2 * k)


def random_score(x: Tensor) -> Tensor:
    """Return an independent uniform number for each token of `x` `[B, L, …]`; follows torch's seed."""
    return torch.rand(x.shape[:2], device=x.device)


def attention_score(q: Tensor, k: Tensor, log_weight: Tensor | None, has_class: bool) -> Tensor:
    """Return how much attention each token gets, `[B, L]`, the mean over heads of softmax(q₀·kᵀ / √d).

    q₀ is the class token's query, as published; without one, the mean of all queries.

    Args:
        q: `[B, heads, L, d]` queries; with a class token in the first place if `has_class`.
        k: keys likewise.
        log_weight: `[B, L]` logarithm of each token's weight, without the class token's, or None.
        has_class: whether there is a class token; it gets no score.

    Source: Liang et al., "Not All Patches are What You Need" (EViT), arXiv 2202.07800.
    """
    with torch.autocast(q.device.type, enabled=False):
        query = q[:, :, :1] if has_class else q.mean(2, keepdim=True)
        logits = (query.float() * k.float()).sum(-1) / math.sqrt(q.shape[-1])
        if log_weight is not None:
            bias = log_weight.float()
            logits = logits + (torch.nn.functional.pad(bias, (1, 0)) if has_class else bias).unsqueeze(1)
        score = torch.softmax(logits, -1).mean(1)
    return score[:, 1:] if has_class else score
