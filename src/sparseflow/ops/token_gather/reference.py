"""Taking and giving back rows of each sample, one row after the other: the truth."""

import torch
from torch import Tensor

__all__ = ["gather", "scatter"]


def gather(x: Tensor, index: Tensor) -> Tensor:
    """Return y[b, i] = x[b, index[b, i]].

    Args:
        x: `[B, L, …]`.
        index: int64 `[B, k]`, from 0 to L − 1.
    """
    y = x.new_empty(*index.shape, *x.shape[2:])
    for b, places in enumerate(index.tolist()):
        for i, place in enumerate(places):
            y[b, i] = x[b, place]
    return y


def scatter(y: Tensor, index: Tensor, length: int) -> Tensor:
    """Return x[b, l] = Σ_{i: index[b, i] = l} y[b, i], 0 where there is none.

    Args:
        y: `[B, k, …]`.
        index: int64 `[B, k]`, from 0 to length − 1.
        length: L.
    """
    x = torch.zeros(y.shape[0], length, *y.shape[2:], dtype=y.dtype, device=y.device)
    for b, places in enumerate(index.tolist()):
        for i, place in enumerate(places):
            x[b, place] += y[b, i]
    return x
