"""Entropies of means of softmaxes over windows of time and groups of patches, in plain torch."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["EPS", "distributions", "entropy", "over_groups", "over_windows"]

EPS = 1e-6


def distributions(x: Tensor, tau: float = 1.0, standardize: bool = True) -> Tensor:
    """Return p = softmax over channels of x / τ, in float64 for such x, else in float32.

    With `standardize`, x is brought to mean 0 and deviation 1 over its channels first: without it, activations much
    smaller than τ give distributions so near to uniform that their entropies differ by less than bfloat16 resolves.

    Args:
        x: `[…, C]`.
        tau: temperature.
        standardize: whether to standardise.

    >>> distributions(torch.tensor([0.0, 0.0]))
    tensor([0.5000, 0.5000])
    """
    x = x if x.dtype == torch.float64 else x.float()
    if standardize:
        x = F.layer_norm(x, x.shape[-1:], eps=EPS)
    return torch.softmax(x / tau, -1)


def entropy(q: Tensor) -> Tensor:
    """Return h(q) = −Σ_c q·log(q + ε), ε = 1e-6, over the last dimension; nats.

    >>> entropy(torch.tensor([0.5, 0.5]))
    tensor(0.6931)
    """
    return -(q * (q + EPS).log()).sum(-1)


def over_windows(p: Tensor, windows: Sequence[tuple[int, int]]) -> Tensor:
    """Return h(mean_{a ≤ t < b} p) of each window [a, b), `[B, W, N]`.

    Args:
        p: `[B, T, N, C]`.
        windows: starts and ends, none empty.
    """
    return torch.stack([entropy(p[:, a:b].mean(1)) for a, b in windows], 1)


def over_groups(p: Tensor, members: Tensor) -> Tensor:
    """Return h(Σ_n members[g, n]·p[n]) of each group, `[B, T, G]`.

    Args:
        p: `[B, T, N, C]`.
        members: `[G, N]`, 1 / size at the patches of a group and 0 elsewhere.
    """
    # Not as a product of matrices, which may run in tf32.
    return torch.stack([entropy((p * row.unsqueeze(-1)).sum(2)) for row in members.to(p.dtype)], 2)
