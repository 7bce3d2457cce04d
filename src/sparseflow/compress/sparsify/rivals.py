"""The dense forms of a model that a packed one must beat on a GPU: in half precision, in a graph, compiled."""

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sparseflow.compress.sparsify.replace import get_module, replace_modules
from sparseflow.nn._stamp import stamp
from sparseflow.nn.block_conv import BlockConv2d
from sparseflow.trace._state import reset_state

__all__ = ["DenseForm", "block_twin", "channels_last"]


# Layers that standardise their weights at every call; "get_weight" returns what they multiply by.
_STANDARDISED = ("WSConv2d", "WSLinear")


class _Held:
    """A weight that is computed once, in place of the method that computes it at every call."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self) -> Tensor:
        return self.weight


class DenseForm(nn.Module):
    """A model run densely in one dtype, channels last, from rest at every call.

    The weights are copies, made again when those of the model change; outputs
    come back in float32. Standardised weights (SpikingJelly's WSConv2d) are computed
    once, in the model's own type, and rounded then.

    Args:
        model: the model; changed is only the state of `neurons`.
        dtype: float16, bfloat16, or float32.
        compiled: run it through `torch.compile`.
        blocks: block size of every convolution that looks for active blocks, by dotted name.
        neurons: modules of the model whose potential `v` is read and written, in the type that they compute it in,
            instead of starting at rest.
    """

    def __init__(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        *,
        compiled: bool = False,
        blocks: Mapping[str, int] | None = None,
        neurons: Collection[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.sources = tuple(model.modules())
        twin: Any = copy.deepcopy(model).eval().to(dtype)
        mine = {id(n) for n in neurons}
        # Pairs in a tuple, so that they are no children.
        self._states: tuple[Any, ...] = tuple(
            pair for pair in zip(model.modules(), twin.modules(), strict=True) if id(pair[0]) in mine
        )
        self._types: dict[int, torch.dtype] = {}
        if blocks:
            twin = replace_modules(twin, {name: block_twin(twin, name, block) for name, block in blocks.items()})
        channels_last(twin)
        self._held = list(_hold_weights(model, twin, dtype))
        self._twin: tuple[nn.Module, ...] = (twin,)
        self._pairs = list(zip(_tensors(model), _tensors(twin), strict=True))
        self._made = stamp(*[own for own, _ in self._pairs])
        # In tuples, so that they are no children: the weights to watch are those of the model.
        self._call: tuple[Any, ...] = (torch.compile(twin, dynamic=False) if compiled else twin,)

    @property
    def twin(self) -> nn.Module:
        """The copy of the model that runs; its modules are in the same order."""
        twin: nn.Module = self._twin[0]
        return twin

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns, from rest or from the states of its neurons."""
        return self._run(self._call[0], args, kwargs)

    def eager(self, *args: Any) -> Any:
        """Return what `forward` does, by the copy's own code even where that was compiled."""
        return self._run(self.twin, args, {})

    def _run(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        now = stamp(*[own for own, _ in self._pairs])
        if now != self._made:
            for own, copied in self._pairs:
                copied.copy_(own)
            for own, held in self._held:
                held.weight.copy_(own.get_weight())
            self._made = now
        args, kwargs = tree_map_only(Tensor, self._cast, (args, kwargs))
        reset_state(self.twin)
        for n, (neuron, own) in enumerate(self._states):
            v = neuron.v
            own.v = v.to(self._types.get(n, self.dtype)) if isinstance(v, Tensor) else v
        made = call(*args, **kwargs)
        for n, (neuron, own) in enumerate(self._states):
            neuron.v, self._types[n] = own.v, own.v.dtype
        reset_state(self.twin)
        return tree_map_only(Tensor, lambda t: t.float() if t.is_floating_point() else t, made)

    def forget(self) -> None:
        """Copy the weights again at the next call, whether a change of them was noticed or not."""
        self._made = ()

    def _cast(self, x: Tensor) -> Tensor:
        x = x.to(self.dtype) if x.is_floating_point() else x
        return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x


def channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights of convolutions of images out channels last, in place; other weights have no such layout."""
    for tensor in model.parameters():
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model


def block_twin(model: nn.Module, name: str, block: int) -> BlockConv2d:
    """Return the twin of a convolution of a model that looks for active blocks; it shares the parameters."""
    conv = get_module(model, name)
    assert isinstance(conv, nn.Conv2d)
    return BlockConv2d.from_dense(conv, block)


def _hold_weights(model: nn.Module, twin: nn.Module, dtype: torch.dtype) -> Iterator[tuple[Any, _Held]]:
    """Let a copy hold the weights that it would standardise at every call; yield each layer of the model with its own.

    In half precision mean and variance of the weights would round four times as many spikes wrong as the rest does.
    """
    for own, copied in zip(model.modules(), twin.modules(), strict=True):
        bases = [
            c for c in type(own).__mro__ if c.__module__.startswith("spikingjelly.") and c.__name__ in _STANDARDISED
        ]
        if bases and type(own).get_weight is bases[0].get_weight:  # type: ignore[attr-defined]
            weight = own.get_weight().detach().to(dtype, copy=True)  # type: ignore[operator]
            held = _Held(weight.contiguous(memory_format=torch.channels_last) if weight.dim() == 4 else weight)
            copied.get_weight = held  # type: ignore[assignment]
            yield own, held


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
