"""What SparseConv2d and SparseLinear share: packed weights kept fresh, and the choice of the kernel."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from sparseflow.nn._stamp import stamp
from sparseflow.nn._tune import fastest
from sparseflow.ops.conv2d_spike import pack_weight

__all__ = ["SparseLayer"]


class SparseLayer(nn.Module):
    """Mixin for a layer with a weight; it comes before the torch class among the bases."""

    kernels: tuple[str, ...] = ("dense",)
    weight: Tensor
    _rows: Tensor | None

    def _setup(self, kernel: str) -> None:
        self.kernel = kernel
        self.choices: dict[tuple[int, ...], str] = {}
        self._stamp: tuple[Any, ...] | None = None
        self.register_buffer("_rows", None, persistent=False)

    @classmethod
    def _adopt(cls, layer: nn.Module) -> Self:
        """Return a bare instance with the attributes and the very parameters of `layer`."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        own = ("_parameters", "_modules", "_buffers")
        made.__dict__.update({k: v for k, v in vars(layer).items() if k not in own})
        made._parameters = dict(layer._parameters)
        return made

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; the weight is packed anew after training, even if written through `weight.data`."""
        if mode:
            self._rows = None
        return super().train(mode)

    def rows_for(self, kernel: str) -> Tensor | None:
        """Return the weight packed for a kernel, packed again if it was changed.

        Compiled code takes what the last eager call packed, or None and packs at every call.

        Raises:
            UnsupportedError: the kernel rejects this weight.
        """
        if torch.compiler.is_compiling():
            return self._rows
        fresh = (kernel, *stamp(self.weight))
        if self._rows is None or fresh != self._stamp:
            with torch.no_grad():
                self._rows = self._packed(kernel)
            self._stamp = fresh
        return self._rows

    def choose(self, x: Tensor) -> str:
        """Return the kernel for an input; "auto" tries all on the first input of a shape."""
        if self.training or x.dtype != torch.float32 or x.device.type != "cpu":
            return "dense"
        if self.kernel != "auto":
            return self.kernel
        key = tuple(x.shape)
        if key not in self.choices:
            if torch.compiler.is_compiling():
                return "dense"
            with torch.no_grad():
                self.choices[key] = fastest({kernel: self._trial(x, kernel) for kernel in self.kernels})
        return self.choices[key]

    def _trial(self, x: Tensor, kernel: str) -> Callable[[], Tensor]:
        return lambda: self._run(x, kernel)

    def _packed(self, kernel: str) -> Tensor:
        return pack_weight(self.weight.detach(), kernel=kernel)

    def _run(self, x: Tensor, kernel: str) -> Tensor:
        raise NotImplementedError

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        # Packed rows are opaque: cast or moved as numbers they could be garbage.
        self._rows = None
        self._stamp = None
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]
