"""SparseConv2d: a convolution that takes its time from the spikes it is given."""

from typing import Any, Self, cast

from torch import Tensor, nn

from sparseflow.errors import UnsupportedError
from sparseflow.nn._sparse import SparseLayer
from sparseflow.ops.conv2d_spike import OP, pack_weight, spike_conv2d

__all__ = ["SparseConv2d", "zeros_around"]

Pair = tuple[int, int]


class SparseConv2d(SparseLayer, nn.Conv2d):
    """`torch.nn.Conv2d` for inputs that are mostly zero, as spikes are.

    Takes `[N, C, H, W]`, `[C, H, W]` and `[T, N, C, H, W]`, any values. Parameters
    and state dict are those of `torch.nn.Conv2d`. What the kernels need of the
    weight is packed once, and again whenever the weight is loaded, changed or
    moved. In training mode the forward is torch's dense one; in eval mode the
    gradient is that of the dense convolution.

    Args:
        args: as for `torch.nn.Conv2d`.
        block_size: block edge that the block policy chose; a note, since the CPU
            kernels work pixel by pixel.
        kernel: a name from the operator's kernels; "auto" measures them on the
            first input of each shape and keeps the fastest, dense included.
        kwargs: as for `torch.nn.Conv2d`.

    Raises:
        UnsupportedError: the padding is not with zeros, or not equal on both sides.

    >>> import torch
    >>> layer = SparseConv2d(1, 1, 3, padding=1, kernel="event").eval()
    >>> layer(torch.zeros(2, 4, 1, 8, 8)).shape
    torch.Size([2, 4, 1, 8, 8])
    """

    kernels = tuple(k.name for k in OP.kernels)

    def __init__(self, *args: Any, block_size: int | None = None, kernel: str = "auto", **kwargs: Any) -> None:
        nn.Conv2d.__init__(self, *args, **kwargs)
        self.sides = zeros_around(self)
        self.block_size = block_size
        self._setup(kernel)

    @classmethod
    def from_dense(cls, conv: nn.Conv2d, block_size: int | None = None, *, kernel: str = "auto") -> Self:
        """Make a layer that shares the parameters of a dense one.

        Args:
            conv: the dense layer; it is not changed, and the parameters are the same objects.
            block_size: see the class.
            kernel: see the class.

        Raises:
            UnsupportedError: the layer pads otherwise than with zeros, or unequally.
        """
        made = cls._adopt(conv)
        made.sides = zeros_around(conv)
        made.block_size = block_size
        made._setup(kernel)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolution of every step."""
        if x.dim() == 5:
            y = self._step(x.flatten(0, 1))
            return y.view(x.shape[0], x.shape[1], *y.shape[1:])
        return self._step(x)

    def _step(self, x: Tensor) -> Tensor:
        return self._run(x, "dense" if x.dim() != 4 else self.choose(x))

    def _packed(self, kernel: str) -> Tensor:
        return pack_weight(self.weight.detach(), self.groups, kernel=kernel)

    def _run(self, x: Tensor, kernel: str) -> Tensor:
        if kernel == "dense":
            return nn.Conv2d.forward(self, x)
        return spike_conv2d(
            x,
            self.weight,
            self.bias,
            rows=self.rows_for(kernel),
            stride=(self.stride[0], self.stride[1]),
            padding=self.sides,
            dilation=(self.dilation[0], self.dilation[1]),
            groups=self.groups,
            kernel=kernel,
        )

    def extra_repr(self) -> str:
        """Return the arguments of the convolution, and the kernel."""
        return f"{cast(Any, super()).extra_repr()}, kernel={self.kernel!r}"


def zeros_around(conv: nn.Conv2d) -> Pair:
    """Return the rows and columns of zeros that a convolution puts on each side of its input.

    Raises:
        UnsupportedError: the padding is not with zeros, or not equal on both sides.

    >>> zeros_around(nn.Conv2d(1, 1, 5, padding="same"))
    (2, 2)
    """
    if conv.padding_mode != "zeros":
        raise UnsupportedError(f"padding_mode is {conv.padding_mode!r}; sparse kernels pad with zeros only")
    if not isinstance(conv.padding, str):
        return (int(conv.padding[0]), int(conv.padding[1]))
    if conv.padding == "valid":
        return (0, 0)
    totals = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    if any(n % 2 for n in totals):
        raise UnsupportedError("padding is 'same' with an even kernel; sparse kernels pad both sides equally")
    return (totals[0] // 2, totals[1] // 2)
