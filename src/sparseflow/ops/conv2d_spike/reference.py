"""The truth of convolution on spikes, in plain torch; every function runs in float64 too."""

import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif import reference as neuron
from sparseflow.ops.lif.reference import LIFParams

__all__ = ["conv_lif", "conv_words", "output_size", "spike_conv2d"]

Pair = tuple[int, int]


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Return height and width of the output; not positive where the kernel does not fit.

    >>> output_size((32, 32), (3, 3), (2, 2), (1, 1), (1, 1))
    (16, 16)
    """
    h, w = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
    return h, w


def spike_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Dense convolution; see `sparseflow.ops.conv2d_spike.spike_conv2d`."""
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def conv_words(
    words: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    *,
    channels: int,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """Convolution of packed spikes with a plain weight; see `sparseflow.ops.conv2d_spike.conv_words`."""
    x = neuron.unpack_spikes(words, channels, weight.dtype)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def conv_lif(
    words: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    params: LIFParams,
    *,
    steps: int,
    channels: int,
    v0: Tensor | None = None,
    residual: Tensor | None = None,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """Convolution, then neurons over all steps, packed; see `sparseflow.ops.conv2d_spike.conv_lif`."""
    y = conv_words(
        words, weight, bias, channels=channels, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    if residual is not None:
        y = y + residual
    return neuron.lif_pack(y, params, steps=steps, v0=v0)
