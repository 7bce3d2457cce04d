"""Entropies of tokens over windows of time and space, in float32 at least, whatever the features' type."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.nn.prune.regions import Regions

__all__ = [
    "EPS",
    "distributions",
    "entropy",
    "minmax",
    "motion",
    "sliding_motion",
    "sliding_region_entropy",
    "sliding_time_entropy",
    "space_entropy",
    "time_entropy",
    "windows",
]

EPS = 1e-6


def distributions(x: Tensor, *, tau: float = 1.0, standardize: bool = True) -> Tensor:
    """Return p = softmax over channels of x / τ, at least in float32.

    With `standardize`, x is brought to mean 0 and deviation 1 over its channels first: without it, activations much
    smaller than τ give distributions so near to uniform that their entropies differ by less than bfloat16 resolves.

    Args:
        x: `[B, T, N, C]` features, any float type.
        tau: temperature.
        standardize: whether to standardise.

    >>> distributions(torch.tensor([[[[0.0, 0.0]]]]))
    tensor([[[[0.5000, 0.5000]]]])
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


def windows(length: int, level: int, overlap: float = 0.0) -> list[tuple[int, int]]:
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


def minmax(x: Tensor) -> Tensor:
    """Bring each sample to [0, 1]: (x − min) / (max − min + ε) over all dimensions but the first.

    >>> minmax(torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
    tensor([[0.0000, 1.0000],
            [0.0000, 0.0000]])
    """
    over = tuple(range(1, x.ndim))
    low = x.amin(over, keepdim=True)
    return (x - low) / (x.amax(over, keepdim=True) - low + EPS)


def time_entropy(p: Tensor, levels: Sequence[int], overlap: float = 0.0) -> Tensor:
    """Return Ht `[B, N]` in [0, 1]: the mean over levels L of min–max of mean_k h(mean_{t in window k of L} p).

    Args:
        p: `[B, T, N, C]` distributions.
        levels: numbers of windows.
        overlap: see `windows`.
    """
    found = []
    for level in levels:
        cut = windows(p.shape[1], level, overlap)
        found.append(minmax(torch.stack([entropy(p[:, a:b].mean(1)) for a, b in cut]).mean(0)))
    return torch.stack(found).mean(0)


def space_entropy(p: Tensor, grid: tuple[int, int], levels: Sequence[int]) -> Tensor:
    """Return Hs `[B, T]` in [0, 1]: the mean over levels L of min–max of mean_blocks h(mean_{patches of the block} p).

    Level L cuts a frame into blocks of ⌈H_p/L⌉×⌈W_p/L⌉ patches; those at the edges may be smaller.

    Args:
        p: `[B, T, N, C]` distributions.
        grid: H_p, W_p.
        levels: blocks a side.
    """
    p = p.view(*p.shape[:2], *grid, p.shape[3])
    found = []
    for level in levels:
        rows, columns = windows(grid[0], level), windows(grid[1], level)
        strips = torch.stack([p[:, :, a:b].mean(2) for a, b in rows], 2)
        blocks = torch.stack([strips[:, :, :, a:b].mean(3) for a, b in columns], 3)
        found.append(minmax(entropy(blocks).mean((2, 3))))
    return torch.stack(found).mean(0)


def motion(p: Tensor, levels: Sequence[int], overlap: float = 0.0) -> Tensor:
    """Return how much each place changes, `[B, T, N]` in [0, 1].

    The mean over levels of min–max of h(mean p) − mean h(p); both means are over the window that a time lies in (over
    several of them, where they overlap). What stands still has 0, however rich it is.

    Args:
        p: `[B, T, N, C]` distributions.
        levels: numbers of windows.
        overlap: see `windows`.

    Source: the Jensen–Shannon divergence of the frames of a window; ours.
    """
    single = entropy(p)
    found = []
    for level in levels:
        total, seen = torch.zeros_like(single), single.new_zeros(p.shape[1], 1)
        for a, b in windows(p.shape[1], level, overlap):
            change = entropy(p[:, a:b].mean(1)) - single[:, a:b].mean(1)
            inside = single.new_zeros(p.shape[1], 1)
            inside[a:b] = 1
            total, seen = total + change[:, None] * inside, seen + inside
        found.append(minmax(total / seen))
    return torch.stack(found).mean(0)


def sliding_time_entropy(p: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return Ht `[B, T, N]` in [0, 1] over windows of each length (at most T) that move by one step.

    h(mean_{window} p), brought back to T times by linear interpolation between the centres of T even cells; min–max a
    sample; the mean over lengths.

    Args:
        p: `[B, T, N, C]` distributions.
        lengths: lengths of windows, time steps.
    """
    found = [_spread(entropy(_moving(p, length)), p.shape[1]) for length in lengths]
    return torch.stack([minmax(h) for h in found]).mean(0)


def sliding_motion(p: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return `motion` over the windows of `sliding_time_entropy`, `[B, T, N]` in [0, 1]."""
    single = entropy(p)
    found = []
    for length in lengths:
        change = entropy(_moving(p, length)) - _moving(single, length)
        found.append(minmax(_spread(change, p.shape[1])))
    return torch.stack(found).mean(0)


def sliding_region_entropy(p: Tensor, partitions: Iterable[Regions]) -> Tensor:
    """Return Hs `[B, T, N]` in [0, 1]: the mean over partitions of min–max of h(mean_{patches of n's region} p).

    Args:
        p: `[B, T, N, C]` distributions.
        partitions: coarse and fine regions of a frame's patches.
    """
    found = [minmax(regions.spread(entropy(regions.means(p, 2)), 2)) for regions in partitions]
    return torch.stack(found).mean(0)


def _moving(p: Tensor, length: int) -> Tensor:
    """Return means over windows of `length` steps of dimension 1."""
    length = min(length, p.shape[1])
    count = p.shape[1] - length + 1
    # Whole slices: torch's mean over an unfolded dimension takes ten times as long on CPUs.
    total = p[:, :count]
    for start in range(1, length):
        total = total + p[:, start : start + count]
    return total / length


def _spread(h: Tensor, times: int) -> Tensor:
    """Interpolate `[B, windows, N]` linearly to `[B, times, N]`."""
    return F.interpolate(h.transpose(1, 2), size=times, mode="linear", align_corners=False).transpose(1, 2)
