"""The truth of convolution by active blocks, in plain torch; runs in float64 too."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.conv2d_spike.reference import Geometry

__all__ = ["active_blocks", "conv2d_block", "scatter_blocks"]


def active_blocks(x: Tensor, block: int) -> Tensor:
    """Return which blocks of a map hold anything but zeros.

    Args:
        x: `[M, C, H, W]`; NaN counts as something.
        block: height and width of a block; those at the lower and right edge may be smaller.

    Returns:
        Booleans `[M, ceil(H/block), ceil(W/block), C]`.

    >>> active_blocks(torch.eye(4)[None, None], 2)[0, :, :, 0]
    tensor([[ True, False],
            [False,  True]])
    """
    h, w = x.shape[2:]
    padded = F.pad((x != 0).to(torch.float32), (0, -w % block, 0, -h % block))
    return F.max_pool2d(padded, block).permute(0, 2, 3, 1) > 0


def conv2d_block(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Dense convolution; see `sparseflow.ops.conv2d_block.conv2d_block`."""
    return F.conv2d(x, weight, bias, *geometry)


def scatter_blocks(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, block: int) -> Tensor:
    """Convolve active blocks one by one, each adding to all outputs that see it: its own and its neighbours'."""
    ho, wo = geometry.output(x.shape[2:], weight.shape[2:])
    y = x.new_zeros(x.shape[0], weight.shape[0], ho, wo)
    for m, i, j, c in active_blocks(x, block).nonzero().tolist():
        alone = torch.zeros_like(x[:1])
        rows, cols = slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block)
        alone[0, c, rows, cols] = x[m, c, rows, cols]
        y[m : m + 1] += F.conv2d(alone, weight, None, *geometry)
    return y if bias is None else y + bias[:, None, None]
