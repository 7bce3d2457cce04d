"""Runs of whole models that are compared with each other: from rest, and on the same sample."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.trace import is_spike_source, neuron_params
from sparseflow.trace._state import quiet

__all__ = ["all_quiet", "cloned", "from_rest", "has_state", "keeps_more", "resting_potential", "state_left"]


def has_state(module: nn.Module) -> bool:
    """Tell whether a module keeps a state from call to call, as neurons do."""
    return is_spike_source(module) or any(cls.__name__ == "MemoryModule" for cls in type(module).__mro__)


def resting_potential(module: nn.Module) -> float | None:
    """Return the potential `v` that a neuron is reset to; None if it is no number, or there is none.

    Args:
        module: any module; of neurons whose maths is not known, those of SpikingJelly tell.
    """
    if not has_state(module):
        return None
    if neuron_params(module) is not None and hasattr(module, "v"):
        return neuron_constants(module).v_rest
    rest = module.__dict__.get("_memories_rv", {}).get("v")
    return float(rest) if isinstance(rest, int | float) else None


def state_left(module: nn.Module) -> bool:
    """Tell whether a module that has just run holds a state; a dropout in eval mode, for one, holds none."""
    memories = module.__dict__.get("_memories")
    return has_state(module) and (memories is None or any(isinstance(value, Tensor) for value in memories.values()))


def keeps_more(module: nn.Module) -> bool:
    """Tell whether a module that has just run holds more than a potential, so that it alone can carry it on."""
    held = [name for name, value in module.__dict__.get("_memories", {}).items() if isinstance(value, Tensor)]
    return state_left(module) and (resting_potential(module) is None or any(name != "v" for name in held))


def cloned(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments that a forward may write into.

    >>> a = (torch.zeros(1), 2)
    >>> cloned(a)[0].add_(1), a
    (tensor([1.]), (tensor([0.]), 2))
    """
    made: tuple[Any, ...] = tree_map_only(Tensor, torch.clone, args)
    return made


def from_rest(model: nn.Module, args: tuple[Any, ...], *, clone: bool) -> Callable[[], Any]:
    """Return a call that resets the neurons and runs the model, on copies of the arguments if told so.

    Args:
        model: the model.
        args: arguments of its forward.
        clone: the forward writes into its arguments.
    """
    resets = []
    for module in model.modules():
        if has_state(module):
            reset = next((r for n in ("reset", "reset_mem") if callable(r := getattr(module, n, None))), None)
            resets += [reset] if reset is not None else []

    def call() -> Any:
        for reset in resets:
            reset()
        return model(*(cloned(args) if clone else args))

    return call


@contextmanager
def all_quiet(models: Sequence[nn.Module]) -> Iterator[None]:
    """Let several models run inside as `quiet` lets one."""
    if not models:
        yield
        return
    with quiet(models[0]), all_quiet(models[1:]):
        yield
