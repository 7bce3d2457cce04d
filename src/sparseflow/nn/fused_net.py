"""FusedNet: a network whose inference runs through fused blocks, and whose training does not."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ["FusedNet"]


class FusedNet(nn.Module):
    """The modules, parameters and state dict of a model, with a second way to run it.

    In eval mode the fused graph runs, without gradient. In training mode, or
    when an input asks for its gradient, the model's own forward runs. Both share
    parameters and neuron states, so `reset()` of the neurons resets both.

    Args:
        model: the model; its modules become those of this one.
        graph: the fused graph over the same modules.

    >>> net = FusedNet(nn.Sequential(nn.Linear(2, 1)), nn.Identity()).eval()
    >>> sorted(net.state_dict())
    ['0.bias', '0.weight']
    """

    def __init__(self, model: nn.Module, graph: nn.Module) -> None:
        super().__init__()
        for name in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[name] = model.__dict__[name]
        # In tuples, so that they are no children: the state dict stays the model's.
        self._plain = (model,)
        self._graph = (graph,)
        self.training = model.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns."""
        if self.training or (torch.is_grad_enabled() and asks_for_gradient(args, kwargs)):
            return self._plain[0](*args, **kwargs)
        with torch.no_grad():
            return self._graph[0](*args, **kwargs)

    @property
    def graph(self) -> nn.Module:
        """The fused graph."""
        return self._graph[0]

    @property
    def plain(self) -> nn.Module:
        """The model with its own forward, over the same modules."""
        return self._plain[0]

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of every module."""
        self._plain[0].training = mode
        return super().train(mode)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._graph[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self


def asks_for_gradient(*inputs: Any) -> bool:
    return any(isinstance(a, Tensor) and a.requires_grad for a in tree_leaves(inputs))
