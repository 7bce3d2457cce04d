"""The truth of matrix products with packed spikes, in plain torch; runs in float64 too."""

import torch
from torch import Tensor

from sparseflow.ops.lif import reference as neuron

__all__ = ["attend", "bits_matmul", "gram", "matmul_bits", "unpack_rows"]


def unpack_rows(words: Tensor, channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return the rows `[B, M, K]` that words `[B, M, ceil(K/32)]` stand for.

    >>> unpack_rows(torch.tensor([[[5]]], dtype=torch.int32), 3)
    tensor([[[1., 0., 1.]]])
    """
    b, m, w = words.shape
    return neuron.unpack_spikes(words.reshape(b * m, 1, 1, w), channels, dtype).reshape(b, m, channels)


def bits_matmul(words: Tensor, other: Tensor, bias: Tensor | None, channels: int) -> Tensor:
    """Multiply bits by floats; see `sparseflow.ops.spike_matmul.bits_matmul`."""
    y = torch.matmul(unpack_rows(words, channels, other.dtype), other)
    return y if bias is None else y + bias


def matmul_bits(x: Tensor, words: Tensor, channels: int) -> Tensor:
    """Multiply floats by bits; see `sparseflow.ops.spike_matmul.matmul_bits`."""
    return torch.matmul(x, unpack_rows(words, channels, x.dtype))


def gram(q: Tensor, k: Tensor, channels: int, scale: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Count common spikes of each pair of rows; see `sparseflow.ops.spike_matmul.gram`."""
    return torch.matmul(unpack_rows(q, channels, dtype), unpack_rows(k, channels, dtype).mT) * scale


def attend(q: Tensor, k: Tensor, v: Tensor, channels: int, out_channels: int, scale: float) -> Tensor:
    """Weigh the rows of v by common spikes; see `sparseflow.ops.spike_matmul.attend`."""
    return torch.matmul(gram(q, k, channels, 1.0), unpack_rows(v, out_channels)) * scale
