"""Spikes: packed bits with the shape that they stand for."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops.lif import or_pool2d, pack_spikes, unpack_spikes

__all__ = ["Spikes", "add", "average", "flatten", "pack", "pool", "regrid", "reshape", "shape", "unpack"]

Pair = tuple[int, int]


class Spikes(NamedTuple):
    """What flows between fused blocks in place of a float tensor of zeros and ones, or of small counts.

    Stands for `[*lead, C, H, W]`, or for `[*lead, C*H*W]` when flat.

    Args:
        words: int32 `[prod(lead), H, W, planes*ceil(C/32)]`, time outermost.
        channels: C.
        lead: leading sizes, as `(T, N)` or `(N,)`.
        flat: channels and pixels count as one axis of features.
        planes: bits of a count, least first, each with all its words; 1 for spikes.
    """

    words: Tensor
    channels: int
    lead: tuple[int, ...]
    flat: bool = False
    planes: int = 1


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


def unpack(spikes: Spikes, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the floats that the spikes stand for, in float32 or float16."""
    if spikes.planes == 1 and dtype == torch.float32:
        x = unpack_spikes(spikes.words, spikes.channels)
    else:
        x = unpack_spikes(spikes.words, spikes.channels, spikes.planes, dtype)
    return x.reshape(shape(spikes))


def pool(spikes: Spikes, kernel: int | Pair, stride: int | Pair | None, padding: int | Pair) -> Spikes:
    """Max-pool: spikes as an or over each window, counts through floats."""
    if spikes.planes == 1:
        return spikes._replace(words=or_pool2d(spikes.words, kernel, stride, padding))
    x = unpack_spikes(spikes.words, spikes.channels, spikes.planes)
    return spikes._replace(words=pack_spikes(F.max_pool2d(x, kernel, stride, padding), spikes.planes))


def add(a: Spikes, b: Spikes, planes: int) -> Spikes:
    """Add counts of one shape, by a full adder over their planes.

    Args:
        a: spikes or counts.
        b: spikes or counts of the same shape.
        planes: bits of the sums; sums are kept modulo `2**planes`.

    Raises:
        ConfigError: the shapes differ.

    >>> import torch
    >>> one = pack(torch.ones(1, 1, 1, 1))
    >>> unpack(add(add(one, one, 2), one, 2)).item()
    3.0
    """
    if shape(a) != shape(b):
        raise ConfigError(f"spikes of shapes {shape(a)} and {shape(b)} cannot be added")
    xs, ys = a.words.tensor_split(a.planes, dim=-1), b.words.tensor_split(b.planes, dim=-1)
    out: list[Tensor] = []
    carry: Tensor | None = None
    for p in range(planes):
        bits = [*xs[p : p + 1], *ys[p : p + 1], *([] if carry is None else [carry])]
        carry = None
        if not bits:
            out.append(torch.zeros_like(xs[0]))
            continue
        total = bits[0]
        for bit in bits[1:]:
            over = total & bit
            carry = over if carry is None else carry | over
            total = total ^ bit
        out.append(total)
    return a._replace(words=torch.cat(out, dim=-1), planes=planes)


def average(spikes: Spikes) -> Tensor:
    """Return the mean over all pixels, float32 `[*lead, C, 1, 1]`."""
    half = torch.float16 if spikes.words.is_cuda else torch.float32
    x = unpack(spikes._replace(flat=False), half)
    return x.mean((-2, -1), keepdim=True, dtype=torch.float32)


def regrid(spikes: Spikes, height: int, width: int) -> Spikes:
    """View the pixels in rows of another length, as tokens or back; none is moved.

    Args:
        spikes: what to view.
        height: new rows.
        width: new columns; both together the old number of pixels.

    Raises:
        ConfigError: there would be another number of pixels.

    >>> import torch
    >>> shape(regrid(pack(torch.zeros(4, 2, 3, 8, 8)), 64, 1))
    (4, 2, 3, 64, 1)
    """
    m, h, w, words = spikes.words.shape
    if h * w != height * width:
        raise ConfigError(f"{h}x{w} pixels cannot be viewed as {height}x{width}")
    return spikes._replace(words=spikes.words.reshape(m, height, width, words), flat=False)


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
