"""Spikes: packed bits with the shape that they stand for."""

from typing import NamedTuple

from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops.lif import or_pool2d, pack_spikes, unpack_spikes

__all__ = ["Spikes", "flatten", "pack", "pool", "reshape", "shape", "unpack"]

Pair = tuple[int, int]


class Spikes(NamedTuple):
    """What flows between fused blocks in place of a float tensor of zeros and ones.

    Stands for `[*lead, C, H, W]`, or for `[*lead, C*H*W]` when flat.

    Args:
        words: int32 `[prod(lead), H, W, ceil(C/32)]`, time outermost.
        channels: C.
        lead: leading sizes, as `(T, N)` or `(N,)`.
        flat: channels and pixels count as one axis of features.
    """

    words: Tensor
    channels: int
    lead: tuple[int, ...]
    flat: bool = False


def shape(spikes: Spikes) -> tuple[int, ...]:
    """Return the shape that the spikes stand for.

    >>> import torch
    >>> shape(pack(torch.zeros(4, 2, 3, 8, 8)))
    (4, 2, 3, 8, 8)
    """
    height, width = spikes.words.shape[1], spikes.words.shape[2]
    if spikes.flat:
        return (*spikes.lead, spikes.channels * height * width)
    return (*spikes.lead, spikes.channels, height, width)


def pack(x: Tensor) -> Spikes:
    """Pack floats `[..., C, H, W]` with one or two leading axes, all 0 or 1.

    Raises:
        DataError: a value is neither 0 nor 1.
    """
    lead = tuple(x.shape[:-3])
    return Spikes(pack_spikes(x.reshape(-1, *x.shape[-3:])), x.shape[-3], lead)


def unpack(spikes: Spikes) -> Tensor:
    """Return the floats that the spikes stand for."""
    x = unpack_spikes(spikes.words, spikes.channels)
    return x.reshape(shape(spikes))


def pool(spikes: Spikes, kernel: int | Pair, stride: int | Pair | None, padding: int | Pair) -> Spikes:
    """Max-pool, as an or over each window."""
    return spikes._replace(words=or_pool2d(spikes.words, kernel, stride, padding))


def reshape(spikes: Spikes, *sizes: int) -> Spikes:
    """View the spikes in another shape that keeps pixels whole.

    Args:
        spikes: what to view.
        sizes: the new shape; one size may be -1. It must end in `(C, H, W)`, or
            in `(C*H*W,)`, as the spikes do.

    Raises:
        ConfigError: the shape would tear pixels apart.

    >>> import torch
    >>> shape(reshape(pack(torch.zeros(4, 2, 3, 8, 8)), 8, -1))
    (8, 192)
    """
    height, width = spikes.words.shape[1], spikes.words.shape[2]
    features = spikes.channels * height * width
    new = _filled(sizes, spikes.words.shape[0] * features)
    if len(new) >= 3 and new[-3:] == (spikes.channels, height, width):
        return spikes._replace(lead=new[:-3], flat=False)
    if new[-1] == features:
        return spikes._replace(lead=new[:-1], flat=True)
    raise ConfigError(f"packed spikes of shape {shape(spikes)} cannot be viewed as {tuple(sizes)}")


def flatten(spikes: Spikes, start_dim: int = 0, end_dim: int = -1) -> Spikes:
    """Merge neighbouring axes, as `torch.flatten`.

    Raises:
        ConfigError: pixels would be torn apart.
    """
    old = shape(spikes)
    start, end = start_dim % len(old), end_dim % len(old)
    merged = 1
    for n in old[start : end + 1]:
        merged *= n
    return reshape(spikes, *old[:start], merged, *old[end + 1 :])


def _filled(sizes: tuple[int, ...], total: int) -> tuple[int, ...]:
    known = 1
    for n in sizes:
        known *= 1 if n == -1 else n
    return tuple(total // known if n == -1 else n for n in sizes)
