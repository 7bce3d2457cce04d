"""BlockConv2d: a convolution in two stages, which looks for active blocks and multiplies those alone."""

from typing import Any, Self, cast

from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.sparse_conv import zeros_around
from sparseflow.ops.conv2d_block import BLOCKS, conv2d_block

__all__ = ["BlockConv2d"]


class BlockConv2d(nn.Conv2d):
    """`torch.nn.Conv2d` for inputs of which whole blocks are zero, on GPUs.

    Takes `[N, C, H, W]` and `[T, N, C, H, W]`, any values, in float32, float16 or
    bfloat16. Parameters and state dict are those of `torch.nn.Conv2d`. On CUDA
    tensors both stages of `ops.conv2d_block` run, elsewhere torch's convolution.

    Args:
        args: as for `torch.nn.Conv2d`.
        block_size: edge of a block: 4, 8 or 16.
        kwargs: as for `torch.nn.Conv2d`.

    Raises:
        UnsupportedError: the padding is not with zeros, or not equal on both sides.
        ConfigError: another block size.

    >>> import torch
    >>> BlockConv2d(1, 2, 3, padding=1, block_size=8)(torch.zeros(4, 1, 1, 8, 8)).shape
    torch.Size([4, 1, 2, 8, 8])
    """

    def __init__(self, *args: Any, block_size: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._set(block_size)

    def _set(self, block_size: int) -> None:
        if block_size not in BLOCKS:
            raise ConfigError(f"block_size is {block_size}; expected one of {', '.join(map(str, BLOCKS))}")
        self.sides, self.block_size = zeros_around(self), block_size

    @classmethod
    def from_dense(cls, conv: nn.Conv2d, block_size: int) -> Self:
        """Make a layer that shares the parameters of a dense one, which is not changed.

        Args:
            conv: the dense layer.
            block_size: see the class.

        Raises:
            UnsupportedError: the layer pads otherwise than with zeros, or unequally.
            ConfigError: another block size.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        own = ("_parameters", "_modules", "_buffers")
        made.__dict__.update({k: v for k, v in vars(conv).items() if k not in own})
        made._parameters = dict(conv._parameters)
        made._set(block_size)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of every step."""
        flat = x.flatten(0, 1) if x.dim() == 5 else x
        y = conv2d_block(
            flat,
            self.weight,
            self.bias,
            block=self.block_size,
            stride=(self.stride[0], self.stride[1]),
            padding=self.sides,
            dilation=(self.dilation[0], self.dilation[1]),
            groups=self.groups,
            kernel="triton" if x.is_cuda else "dense",
        )
        return y.view(*x.shape[:2], *y.shape[1:]) if x.dim() == 5 else y

    def extra_repr(self) -> str:
        """Return the arguments of the convolution, and the block size."""
        return f"{cast(Any, super()).extra_repr()}, block_size={self.block_size}"
