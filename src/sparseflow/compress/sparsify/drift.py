"""What a layer takes at other densities than the sample's, and from which one on another kernel is faster."""

from collections.abc import Sequence
from itertools import pairwise

import torch

from sparseflow.nn.spikes import Spikes
from sparseflow.ops.lif import pack_spikes

__all__ = ["BUCKETS", "crossing", "iid_spikes"]

BUCKETS = {"0-2 %": (0.003, 0.015), "2-20 %": (0.05, 0.15), "over 20 %": (0.4,)}
"""Densities at which kernels are timed, by the bucket that they stand for."""
_AT_ONCE = 1 << 24


def iid_spikes(like: Spikes, density: float) -> Spikes:
    """Return independent bits in the shape of packed spikes or counts; the same ones at every call.

    Neighbours of real spikes fire together more often, so a kernel that gains
    from empty neighbourhoods gains less from these.

    Args:
        like: packed spikes or counts.
        density: share of ones.
    """
    m, h, w, _ = like.words.shape
    device, channels = like.words.device, like.channels
    generator = torch.Generator(device).manual_seed(m * h * w)
    words, maps = torch.empty_like(like.words), max(1, _AT_ONCE // max(h * w * channels, 1))
    for part in torch.split(words, maps) if m else ():
        for plane in part.tensor_split(like.planes, dim=-1):
            drawn = torch.rand((len(part), h, w, channels), device=device, generator=generator) < density
            plane.copy_(pack_spikes(drawn.to(torch.float16).permute(0, 3, 1, 2)))
    return like._replace(words=words)


def crossing(points: Sequence[tuple[float, float, float]], own: float) -> float | None:
    """Return the density above `own` at which the first of two kernels starts to lose, or None if it never does.

    Between two densities times are taken for straight lines.

    Args:
        points: density, seconds of the first kernel, seconds of the second; in any order.
        own: a density of `points` at which the first one wins.

    >>> crossing([(0.5, 1.0, 2.0), (1.0, 3.0, 2.0), (0.0, 9.0, 2.0)], own=0.5)
    0.75
    """
    above = sorted(point for point in points if point[0] >= own)
    for (low, a, b), (high, c, d) in pairwise(above):
        if c >= d:
            gain, loss = b - a, c - d
            return low + (high - low) * gain / (gain + loss) if gain > 0 else low
    return None
