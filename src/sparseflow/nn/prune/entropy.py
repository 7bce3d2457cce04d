"""What entropies over windows and groups say about tokens: levels, sliding windows, motion."""

from collections.abc import Iterable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.nn.prune.regions import Regions
from sparseflow.ops.window_entropy.reference import EPS

__all__ = [
    "Window",
    "minmax",
    "motion",
    "moving_windows",
    "region_entropy",
    "sliding_motion",
    "sliding_time_entropy",
    "space_entropy",
    "time_entropy",
    "windows",
]

Window = tuple[int, int]
Table = Mapping[Window, Tensor]
"""Entropy of each place's mean over a window [a, b) of times, `[B, N]`."""


def windows(length: int, level: int, overlap: float = 0.0) -> list[Window]:
    """Return `level` windows [start, end) of ⌈length / level⌉ steps; fewer where they would be empty.

    They start max(1, ⌊w(1 − overlap)⌋) apart, and the last one ends with the sequence.

    >>> windows(8, 2), windows(5, 4), windows(8, 2, 0.5)
    ([(0, 4), (4, 8)], [(0, 2), (2, 4), (4, 5)], [(0, 4), (2, 6), (4, 8)])
    """
    width = -(-length // level)
    step = max(1, int(width * (1 - overlap)))
    found = []
    for start in range(0, length, step):
        found.append((start, min(start + width, length)))
        if start + width >= length:
            break
    return found


def moving_windows(length: int, width: int) -> list[Window]:
    """Return all windows [start, end) of `width` steps, or of `length` if that is less.

    >>> moving_windows(4, 3)
    [(0, 3), (1, 4)]
    """
    width = min(width, length)
    return [(start, start + width) for start in range(length - width + 1)]


def minmax(x: Tensor) -> Tensor:
    """Bring each sample to [0, 1]: (x − min) / (max − min + ε) over all dimensions but the first.

    >>> minmax(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    tensor([[0.0000, 1.0000],
            [0.0000, 0.0000]])
    """
    over = tuple(range(1, x.ndim))
    low = x.amin(over, keepdim=True)
    return (x - low) / (x.amax(over, keepdim=True) - low + EPS)


def time_entropy(h: Table, cuts: Sequence[Sequence[Window]]) -> Tensor:
    """Return Ht `[B, N]` in [0, 1]: the mean over levels of min–max of mean_k h(mean_{t in window k} p).

    Args:
        h: entropies over windows.
        cuts: the windows of each level.
    """
    return torch.stack([minmax(torch.stack([h[w] for w in cut]).mean(0)) for cut in cuts]).mean(0)


def motion(h: Table, cuts: Sequence[Sequence[Window]], times: int) -> Tensor:
    """Return how much each place changes, `[B, T, N]` in [0, 1].

    The mean over levels of min–max of h(mean p) − mean h(p); both means are over the window that a time lies in (over
    several of them, where they overlap). What stands still has 0, however rich it is.

    Args:
        h: entropies over windows, of single times too.
        cuts: the windows of each level.
        times: T.

    Source: the Jensen–Shannon divergence of the frames of a window; ours.
    """
    found = []
    for cut in cuts:
        changes = {w: _change(h, w) for w in cut}
        over = [[changes[w] for w in cut if w[0] <= t < w[1]] for t in range(times)]
        found.append(minmax(torch.stack([sum(o[1:], o[0]) / len(o) for o in over], 1)))
    return torch.stack(found).mean(0)


def sliding_time_entropy(h: Table, cuts: Sequence[Sequence[Window]], times: int) -> Tensor:
    """Return Ht `[B, T, N]` in [0, 1] over windows of each length that move by one step.

    h(mean_{window} p), brought back to T times by linear interpolation between the centres of T even cells; min–max a
    sample; the mean over lengths.

    Args:
        h: entropies over windows.
        cuts: the windows of each length.
        times: T.
    """
    return torch.stack([minmax(_spread([h[w] for w in cut], times)) for cut in cuts]).mean(0)


def sliding_motion(h: Table, cuts: Sequence[Sequence[Window]], times: int) -> Tensor:
    """Return `motion` over the windows of `sliding_time_entropy`, `[B, T, N]` in [0, 1]."""
    return torch.stack([minmax(_spread([_change(h, w) for w in cut], times)) for cut in cuts]).mean(0)


def space_entropy(levels: Iterable[Tensor]) -> Tensor:
    """Return Hs `[B, T]` in [0, 1]: the mean over levels of min–max of mean_blocks h(mean_{patches of the block} p).

    Args:
        levels: entropies over the blocks of each level, `[B, T, blocks]`.
    """
    return torch.stack([minmax(h.mean(2)) for h in levels]).mean(0)


def region_entropy(levels: Iterable[Tensor], partitions: Iterable[Regions]) -> Tensor:
    """Return Hs `[B, T, N]` in [0, 1]: the mean over partitions of min–max of h(mean_{patches of n's region} p).

    Args:
        levels: entropies over the regions of each partition, `[B, T, R]`.
        partitions: coarse and fine regions of a frame's patches.
    """
    return torch.stack([minmax(r.spread(h, 2)) for h, r in zip(levels, partitions, strict=True)]).mean(0)


def _change(h: Table, window: Window) -> Tensor:
    """Return h(mean p) − mean h(p) over a window."""
    single = [h[t, t + 1] for t in range(*window)]
    return h[window] - sum(single[1:], single[0]) / len(single)


def _spread(rows: Sequence[Tensor], times: int) -> Tensor:
    """Interpolate rows of `[B, N]`, one a window, linearly to `[B, times, N]`."""
    line = torch.stack(list(rows), 2)
    return F.interpolate(line, size=times, mode="linear", align_corners=False).transpose(1, 2)
