"""The truth of convolution on spikes, in plain torch; every function runs in float64 too."""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif import reference as neuron
from sparseflow.ops.lif.reference import LIFParams

__all__ = ["Geometry", "conv_lif", "conv_words", "spike_conv2d"]

Pair = tuple[int, int]


class Geometry(NamedTuple):
    """How the window of a convolution moves.

    >>> Geometry(stride=(2, 2), padding=(1, 1)).output((32, 32), (3, 3))
    (16, 16)
    """

    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def output(self, size: Sequence[int], kernel: Sequence[int]) -> Pair:
        """Return height and width of the output; not positive where the kernel does not fit."""
        h, w = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return h, w

    def flat(self) -> list[int]:
        """Return the seven numbers as an operator schema takes them."""
        return [*self.stride, *self.padding, *self.dilation, self.groups]

    @classmethod
    def of(cls, flat: Sequence[int]) -> "Geometry":
        """Undo `flat`.

        >>> Geometry.of(Geometry().flat()) == Geometry()
        True
        """
        sh, sw, ph, pw, dh, dw, groups = flat
        return cls((sh, sw), (ph, pw), (dh, dw), groups)


def spike_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Dense convolution; see `sparseflow.ops.conv2d_spike.spike_conv2d`."""
    return F.conv2d(x, weight, bias, *geometry)


def conv_words(words: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Convolution of packed spikes with a plain weight; see `sparseflow.ops.conv2d_spike.conv_words`."""
    x = neuron.unpack_spikes(words, weight.shape[1] * geometry.groups, weight.dtype)
    return F.conv2d(x, weight, bias, *geometry)


def conv_lif(
    words: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    params: LIFParams,
    geometry: Geometry,
    *,
    steps: int,
    v0: Tensor | None = None,
    residual: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Convolution, then neurons over all steps, packed; see `sparseflow.ops.conv2d_spike.conv_lif`."""
    y = conv_words(words, weight, bias, geometry)
    if residual is not None:
        y = y + residual
    return neuron.lif_pack(y, params, steps=steps, v0=v0)
