"""The dense forms of a model that a packed one must beat on a GPU: in half precision, in a graph, compiled."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sparseflow.compress.sparsify.replace import get_module, replace_modules
from sparseflow.nn._stamp import stamp
from sparseflow.nn.block_conv import BlockConv2d
from sparseflow.trace._state import reset_state

__all__ = ["DenseForm", "block_twin"]


class DenseForm(nn.Module):
    """A model run densely in one dtype, channels last, from rest at every call.

    The weights are copies, made again when those of the model change; outputs
    come back in float32.

    Args:
        model: the model; never changed.
        dtype: float16, bfloat16, or float32.
        compiled: run it through `torch.compile`.
        blocks: block size of every convolution that looks for active blocks, by dotted name.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        *,
        compiled: bool = False,
        blocks: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.sources = tuple(model.modules())
        twin: Any = copy.deepcopy(model).eval().to(dtype)
        if blocks:
            twin = replace_modules(twin, {name: block_twin(twin, name, block) for name, block in blocks.items()})
        twin = twin.to(memory_format=torch.channels_last)
        self._twin: tuple[nn.Module, ...] = (twin,)
        self._pairs = list(zip(_tensors(model), _tensors(twin), strict=True))
        self._made = stamp(*[own for own, _ in self._pairs])
        # In tuples, so that they are no children: the weights to watch are those of the model.
        self._call: tuple[Any, ...] = (torch.compile(twin, dynamic=False) if compiled else twin,)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns from rest."""
        now = stamp(*[own for own, _ in self._pairs])
        if now != self._made:
            for own, copied in self._pairs:
                copied.copy_(own)
            self._made = now
        args, kwargs = tree_map_only(Tensor, self._cast, (args, kwargs))
        reset_state(self._twin[0])
        made = self._call[0](*args, **kwargs)
        reset_state(self._twin[0])
        return tree_map_only(Tensor, lambda t: t.float() if t.is_floating_point() else t, made)

    def forget(self) -> None:
        """Copy the weights again at the next call, whether a change of them was noticed or not."""
        self._made = ()

    def _cast(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype) if x.is_floating_point() else x
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def block_twin(model: nn.Module, name: str, block: int) -> BlockConv2d:
    """Return the twin of a convolution of a model that looks for active blocks; it shares the parameters."""
    conv = get_module(model, name)
    assert isinstance(conv, nn.Conv2d)
    return BlockConv2d.from_dense(conv, block)


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
