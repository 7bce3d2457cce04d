"""The truth of one layer on packed spikes, in plain torch; runs in float64 too."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif import reference as neuron
from sparseflow.ops.lif.reference import WORD, LIFParams

__all__ = ["Source", "pack_counts", "spike_layer", "unpack_counts"]

Pair = tuple[int, int]


class Source(NamedTuple):
    """Packed spikes or counts, and how a convolution's window moves over them.

    Args:
        words: int32 `[T*N, H, W, planes*ceil(C/32)]`, time outermost, planes before words in the last axis.
        channels: C.
        planes: bits of a count; 1 for spikes.
        kernel_size: height and width of the window.
        stride: step of the window.
        padding: zeros around the map.
        dilation: step inside the window.
    """

    words: Tensor
    channels: int
    planes: int = 1
    kernel_size: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def output(self) -> Pair:
        """Return height and width of the output; not positive where the window does not fit."""
        h, w = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                self.words.shape[1:3], self.kernel_size, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return h, w


def unpack_counts(words: Tensor, channels: int, planes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the counts `[M, C, H, W]` that bit planes stand for.

    >>> unpack_counts(torch.tensor([[[[1, 3]]]], dtype=torch.int32), 2, 2).flatten()
    tensor([3., 2.])
    """
    m, h, w, _ = words.shape
    out = torch.zeros(m, channels, h, w, dtype=dtype, device=words.device)
    for p, plane in enumerate(words.tensor_split(planes, dim=-1)):
        out += neuron.unpack_spikes(plane, channels, dtype) * 2**p
    return out


def pack_counts(x: Tensor, planes: int) -> Tensor:
    """Return the bit planes of whole numbers `[M, C, H, W]`, modulo `2**planes`.

    >>> pack_counts(torch.tensor([3.0, 2.0]).reshape(1, 2, 1, 1), 2)
    tensor([[[[1, 3]]]], dtype=torch.int32)
    """
    values = x.to(torch.int64)
    return torch.cat([neuron.pack_spikes(((values >> p) & 1).float()) for p in range(planes)], dim=-1)


def spike_layer(
    sources: Sequence[Source],
    weights: Sequence[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    *,
    steps: int,
    identity: tuple[Tensor, int] | None = None,
    add: tuple[Tensor, int] | None = None,
    v0: Tensor | None = None,
    out_planes: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """Run the layer on plain weights `[Cout, C, kh, kw]`; see `sparseflow.ops.spike_layer.spike_layer`.

    Returns:
        Words and the last potential, or without a neuron the currents and None.
    """
    channels, dtype = weights[0].shape[0], weights[0].dtype
    x: Tensor | None = None
    for source, weight in zip(sources, weights, strict=True):
        inputs = unpack_counts(source.words, source.channels, source.planes, dtype)
        y = F.conv2d(inputs, weight, None, source.stride, source.padding, source.dilation)
        x = y if x is None else x + y
    assert x is not None
    if bias is not None:
        x = x + bias[:, None, None]
    if identity is not None:
        x = x + unpack_counts(identity[0], channels, identity[1], dtype)
    if params is None:
        return x, None
    spikes, v = neuron.lif(x, params, steps=steps, v0=None if v0 is None else v0.to(dtype))
    if add is not None:
        spikes = spikes + unpack_counts(add[0], channels, add[1], dtype)
    return pack_counts(spikes, out_planes), v


def check_width(words: Tensor, channels: int, planes: int) -> bool:
    """Tell whether the last axis holds these planes of these channels."""
    return words.dtype == torch.int32 and words.ndim == 4 and words.shape[3] == planes * -(-channels // WORD)
