"""Layers of a trained network fed with the spikes of the dense one, in several processes."""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch

from sparseflow.recipes.spike_bench.gpu.dense import neuron_params
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally, layer_case
from sparseflow.recipes.spike_bench.gpu.nets import load_trained
from sparseflow.recipes.spike_bench.gpu.settings import strict
from sparseflow.recipes.spike_bench.gpu.tasks import Task
from sparseflow.recipes.spike_bench.network import SpikingLayer, spiking_layers

__all__ = ["IMAGES", "LayerDeck", "fed_layers", "run_here", "run_layers"]

IMAGES = 8


@dataclass
class LayerDeck:
    """Every layer of some networks with every kernel, one network after the other.

    Args:
        names: the layers of each trained network, in the order of `fed_layers`, by its name or path.
        combinations: kernels and precisions.
    """

    names: Mapping[str, Sequence[str]]
    combinations: Sequence[tuple[str, str]]
    tallies: dict[tuple[str, str, str], dict[str, Tally]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Deal the tasks."""
        self._lock = threading.Lock()
        self.tallies = {(path, *pair): {} for path in self.names for pair in self.combinations}
        self._todo: deque[Task] = deque(
            Task(kernel=kernel, precision=precision, seeds=(i,), path=path)
            for path, names in self.names.items()
            for i in range(len(names))
            for kernel, precision in self.combinations
        )

    def take(self) -> Task | None:
        """Return the next task, or None if there is none."""
        with self._lock:
            return self._todo.popleft() if self._todo else None

    def put(self, task: Task, tally: Tally, errors: dict[str, str]) -> None:
        """Take note of what a task gave."""
        with self._lock:
            if not errors:
                name = self.names[task.path][task.seeds[0]]
                self.tallies[task.path, task.kernel, task.precision][name] = tally
            self.errors |= errors


def fed_layers(model: Any, x: torch.Tensor) -> dict[str, SpikingLayer]:
    """Return the layers with a neuron behind them, and their inputs in the dense network."""
    with strict():
        found = spiking_layers(model, x[:IMAGES])
    return {name: layer for name, layer in found.items() if layer.neuron is not None}


@lru_cache(maxsize=1)
def _layers(path: str, device: torch.device) -> dict[str, SpikingLayer]:
    case = load_trained(path, IMAGES, device)
    return fed_layers(case.model, case.x)


def run_layers(task: Task, device: torch.device) -> tuple[Tally, dict[str, str]]:
    """Run the layers of a task, and return their tally and what broke.

    Raises:
        RuntimeError: the device is lost.
    """
    return run_here(_layers(task.path, device), task, device)


def run_here(layers: Mapping[str, SpikingLayer], task: Task, device: torch.device) -> tuple[Tally, dict[str, str]]:
    """Do what `run_layers` does, with layers that are there.

    Raises:
        RuntimeError: the device is lost.
    """
    total, errors = Tally(), {}
    for name in [list(layers)[i] for i in task.seeds]:
        found = layers[name]
        assert found.neuron is not None
        params = neuron_params(found.neuron)
        try:
            total.add(layer_case(found.layer, found.bn, params, found.x, task.kernel, task.precision, name))
        except Exception as e:
            errors[f"{name}, {task.kernel}, {task.precision}"] = f"{type(e).__name__}: {e}"[:300]
            if device.type == "cuda":
                torch.cuda.synchronize(device)
    return total, errors
