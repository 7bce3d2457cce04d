"""FusedNet: a network whose inference runs through fused blocks, and whose training does not."""

import warnings
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

__all__ = ["FusedNet", "Shapes"]

Shapes = tuple[tuple[int | None, ...], ...]


class FusedNet(nn.Module):
    """The modules, parameters and state dict of a model, with a second way to run it.

    In eval mode the fused graph runs, without gradient. In training mode, or
    when an input asks for its gradient, the model's own forward runs. Both share
    parameters and neuron states, so `reset()` of the neurons resets both. What
    this class lacks, as attributes of the model's class, is the model's.

    The blocks follow weights that are loaded or changed in place. They cannot see
    a write through `weight.data`: after one, call `train()` and `eval()`. Thresholds
    and time constants that are plain numbers are those of the time of fusing. Cast
    to another type or moved to another device, the network warns and runs the
    model's own forward from then on.

    Args:
        model: the model; its modules become those of this one.
        graph: the fused graph over the same modules.
        shapes: shapes of the tensors that the graph holds for, None in place of a size that may be
            any; on others the model's own forward runs. None where it holds for all.

    >>> net = FusedNet(nn.Sequential(nn.Linear(2, 1)), nn.Identity()).eval()
    >>> sorted(net.state_dict())
    ['0.bias', '0.weight']
    """

    _fits = True

    def __init__(self, model: nn.Module, graph: nn.Module, *, shapes: Shapes | None = None) -> None:
        super().__init__()
        self._shapes = shapes
        for name in ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set"):
            self.__dict__[name] = model.__dict__[name]
        # In tuples, so that they are no children: the state dict stays the model's.
        self._plain = (model,)
        self._graph = (graph,)
        self.training = model.training
        if callable(getattr(type(model), "reset", None)):
            # Where `reset_net` looks, which asks no `__getattr__`.
            self.__dict__["reset"] = model.reset

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the model returns."""
        if self.training or not self._fits or (torch.is_grad_enabled() and asks_for_gradient(args, kwargs)):
            return self._plain[0](*args, **kwargs)
        if not self._holds_for(args, kwargs):
            return self._plain[0](*args, **kwargs)
        with torch.no_grad():
            return self._graph[0](*args, **kwargs)

    def _holds_for(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether the graph is that of inputs of these shapes."""
        if self._shapes is None:
            return True
        given = [a.shape for a in tree_leaves((args, kwargs)) if isinstance(a, Tensor)]
        if len(given) != len(self._shapes):
            return False
        return all(
            len(shape) == len(held) and all(n is None or n == m for n, m in zip(held, shape, strict=True))
            for held, shape in zip(self._shapes, given, strict=True)
        )

    @property
    def graph(self) -> nn.Module:
        """The fused graph."""
        return self._graph[0]

    @property
    def plain(self) -> nn.Module:
        """The model with its own forward, over the same modules."""
        return self._plain[0]

    def train(self, mode: bool = True) -> Self:
        """Set the training mode of every module; what was packed from weights is packed anew after training."""
        self._plain[0].training = mode
        if mode:
            self._forget()
        return super().train(mode)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute or a method that the model has and this class lacks."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            # Not there yet while a copy is made.
            for model in self.__dict__.get("_plain", ()):
                return getattr(model, name)
            raise

    def _forget(self) -> None:
        for block in self._graph[0].modules():
            forget = getattr(type(block), "forget", None)
            if forget is not None:
                forget(block)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._graph[0]._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._forget()
        fits = all(p.dtype == torch.float32 and p.device.type == "cpu" for p in self.parameters())
        if self._fits and not fits and type(self) is FusedNet:
            warnings.warn("the fused blocks run in float32 on the CPU; the model's own forward runs now", stacklevel=2)
        self._fits = fits
        return self


def asks_for_gradient(*inputs: Any) -> bool:
    return any(isinstance(a, Tensor) and a.requires_grad for a in tree_leaves(inputs))
