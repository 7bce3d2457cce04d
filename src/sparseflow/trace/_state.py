"""Run a model as if it had not run: eval mode, no gradient, fresh state, everything put back."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from sparseflow.trace.registry import is_spike_source

__all__ = ["one_at_a_time", "quiet", "reset_state", "state_tensors"]

P = ParamSpec("P")
R = TypeVar("R")
_LOCK = threading.RLock()
_NESTED = ("_memories", "_buffers", "_parameters")


def one_at_a_time(fn: Callable[P, R]) -> Callable[P, R]:
    """Let one thread at a time into any of the functions so marked.

    A symbolic trace patches `torch.nn.Module` for the whole process, and times taken side by side mean nothing.
    """

    @wraps(fn)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with _LOCK:
            return fn(*args, **kwargs)

    return alone


def _is_stateful(module: nn.Module) -> bool:
    return is_spike_source(module) or any(cls.__name__ == "MemoryModule" for cls in type(module).__mro__)


def reset_state(model: nn.Module) -> None:
    """Put the state of every neuron and memory module back to its start value."""
    for module in model.modules():
        if not _is_stateful(module):
            continue
        for name in ("reset", "reset_mem"):
            method = getattr(module, name, None)
            if callable(method):
                method()
                break


def state_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """Yield the tensors that a module holds itself: parameters, buffers, memories, plain attributes."""
    for key, value in module.__dict__.items():
        inner = value.values() if key in _NESTED and isinstance(value, dict) else (value,)
        yield from (v for v in inner if isinstance(v, torch.Tensor))


class _Snapshot:
    """Attributes, memories, buffers and modes of a model; tensors are copied when they hold state."""

    def __init__(self, model: nn.Module) -> None:
        self._modes = [(module, module.training) for module in model.modules()]
        self._dicts: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._values: dict[int, tuple[torch.Tensor, torch.Tensor, int]] = {}
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            self._dicts.append((module.__dict__, dict(module.__dict__)))
            for key in _NESTED:
                inner = module.__dict__.get(key)
                if isinstance(inner, dict):
                    self._dicts.append((inner, dict(inner)))
            for tensor in state_tensors(module):
                if not isinstance(tensor, nn.Parameter) and not tensor.is_inference():
                    self._values.setdefault(id(tensor), (tensor, tensor.detach().clone(), tensor._version))

    def restore(self) -> None:
        for live, kept in self._dicts:
            for key in live.keys() - kept.keys():
                del live[key]
            live.update(kept)
        with torch.no_grad():
            for tensor, value, version in self._values.values():
                if tensor._version != version:
                    tensor.data.copy_(value)
        for module, training in self._modes:
            module.training = training


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Let `model` run inside in eval mode without gradient, from fresh state; restore it afterwards.

    Restored are the training flags, every attribute of every module (membrane
    voltages among them), buffers and the random generator of the CPU.
    """
    snapshot = _Snapshot(model)
    try:
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
            model.eval()
            reset_state(model)
            yield
    finally:
        snapshot.restore()
