"""Compiled kernel of the linear layer: the convolution's, on maps of one pixel."""

from torch import Tensor

from sparseflow.ops import conv2d_spike

__all__ = ["as_conv", "pack"]


def as_conv(weight: Tensor) -> Tensor:
    """Return a `[Cout, K]` weight as that of a 1x1 convolution.

    >>> import torch
    >>> as_conv(torch.ones(2, 3)).shape
    torch.Size([2, 3, 1, 1])
    """
    return weight[:, :, None, None]


def pack(weight: Tensor, kernel: str = "auto") -> Tensor:
    """Pack a `[Cout, K]` weight; see `sparseflow.ops.conv2d_spike.pack_weight`."""
    return conv2d_spike.pack_weight(as_conv(weight), 1, kernel=kernel)
