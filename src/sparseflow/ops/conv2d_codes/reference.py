"""The convolution of bytes in float64, which holds every sum of codes, and its rounding to codes line by line."""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["convolve"]


def convolve(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    multiplier: Tensor,
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    bounds: tuple[int, int, int] | None,
) -> Tensor:
    """Return codes, or real numbers; see `sparseflow.ops.conv2d_codes.conv2d_codes`."""
    sums = F.conv2d(codes.double(), weight.double(), None, stride, padding, dilation).float()
    value = (sums + bias.view(-1, 1, 1)) * multiplier.view(-1, 1, 1)
    if bounds is None:
        return value
    low, high, zero = bounds
    return (value.round() + zero).clamp(low, high).to(torch.uint8)
