"""SparseLinear: a linear layer that takes its time from the spikes it is given."""

from typing import Any, Self

from torch import Tensor, nn

from sparseflow.nn._sparse import SparseLayer
from sparseflow.ops.conv2d_spike import pack_weight
from sparseflow.ops.linear_spike import OP, spike_linear

__all__ = ["SparseLinear"]


class SparseLinear(SparseLayer, nn.Linear):
    """`torch.nn.Linear` for inputs that are mostly zero, as spikes are.

    Takes `[..., K]` of any values. Parameters and state dict are those of
    `torch.nn.Linear`; what the kernels need of the weight is packed once, and
    again whenever the weight is loaded, changed or moved. In training mode the
    forward is torch's dense one; in eval mode the gradient is that of the dense
    layer.

    Args:
        args: as for `torch.nn.Linear`.
        kernel: a name from the operator's kernels; "auto" measures them on the
            first input of each shape and keeps the fastest, dense included.
        kwargs: as for `torch.nn.Linear`.

    >>> import torch
    >>> SparseLinear(8, 2, kernel="event").eval()(torch.zeros(4, 3, 8)).shape
    torch.Size([4, 3, 2])
    """

    kernels = tuple(k.name for k in OP.kernels)

    def __init__(self, *args: Any, kernel: str = "auto", **kwargs: Any) -> None:
        nn.Linear.__init__(self, *args, **kwargs)
        self._setup(kernel)

    @classmethod
    def from_dense(cls, linear: nn.Linear, *, kernel: str = "auto") -> Self:
        """Make a layer that shares the parameters of a dense one.

        Args:
            linear: the dense layer; it is not changed, and the parameters are the same objects.
            kernel: see the class.
        """
        made = cls._adopt(linear)
        made._setup(kernel)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        return self._run(x, "dense" if x.dim() < 2 else self.choose(x))

    def _packed(self, kernel: str) -> Tensor:
        return pack_weight(self.weight.detach()[:, :, None, None], kernel=kernel)

    def _run(self, x: Tensor, kernel: str) -> Tensor:
        if kernel == "dense":
            return nn.Linear.forward(self, x)
        return spike_linear(x, self.weight, self.bias, rows=self.rows_for(kernel), kernel=kernel)

    def extra_repr(self) -> str:
        """Return the arguments of the layer, and the kernel."""
        return f"{super().extra_repr()}, kernel={self.kernel!r}"
