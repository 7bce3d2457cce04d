"""Layers of a trained network fed with the spikes of the dense one, in several processes.

The process that hands them out runs each network once and leaves every layer with
its input in a file; those that compare layers hold the one that they were given.
"""

import copy
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.nn import layers as folding
from sparseflow.ops.lif import LIFParams
from sparseflow.recipes.spike_bench.gpu.dense import neuron_params
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally, layer_case, layer_room
from sparseflow.recipes.spike_bench.gpu.settings import strict
from sparseflow.recipes.spike_bench.gpu.tasks import Task
from sparseflow.recipes.spike_bench.network import spiking_layers

__all__ = ["BATCH", "IMAGES", "SMALL", "FedLayer", "LayerDeck", "fed_layers", "run_layers", "save_layers"]

# Small images come in the batch of whole networks: a kernel may have a form for large batches alone.
SMALL, BATCH, IMAGES = 64, 100, 8
# Bytes that a process takes of a device before it has computed anything.
CONTEXT = 2**30
# What a file of a layer may hold beside tensors; anything else in it is refused.
MODULES = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, folding.Conv2d, folding.BatchNorm2d)


@dataclass(frozen=True, slots=True, kw_only=True)
class FedLayer:
    """A layer with its neuron, and its real input.

    Args:
        name: its dotted name in the network.
        layer: convolution or linear layer, on the CPU as all of it.
        bn: the normalisation behind it, or None.
        params: constants of its neuron.
        x: the input of one forward, `[T, N, C, H, W]` or `[T, N, K]`; uint8 where it holds small counts alone.
    """

    name: str
    layer: nn.Conv2d | nn.Linear
    bn: nn.Module | None
    params: LIFParams
    x: Tensor

    @property
    def room(self) -> int:
        """Bytes of the device that a process needs to compare it."""
        return CONTEXT + layer_room(self.layer, self.x.shape)


@dataclass
class LayerDeck:
    """Every layer of some networks with every kernel, one network after the other.

    Args:
        names: the layers of each trained network, in the order of `fed_layers`, by its name or path.
        combinations: kernels and precisions.
        files: the files of those layers.
    """

    names: Mapping[str, Sequence[str]]
    combinations: Sequence[tuple[str, str]]
    files: Mapping[str, Sequence[str]]
    tallies: dict[tuple[str, str, str], dict[str, Tally]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Deal the tasks."""
        self._lock = threading.Lock()
        self.tallies = {(path, *pair): {} for path in self.names for pair in self.combinations}
        self._todo: deque[Task] = deque(
            Task(kernel=kernel, precision=precision, seeds=(i,), path=path, file=self.files[path][i])
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


def fed_layers(model: Any, x: Tensor) -> dict[str, FedLayer]:
    """Return the layers with a neuron behind them, and their inputs in the dense network; all of it on the CPU.

    Args:
        model: a trained network in eval mode.
        x: images; of large ones the first 8 are fed, of small ones 100.
    """
    with strict(), torch.no_grad():
        found = spiking_layers(model, x[: BATCH if x.shape[-1] <= SMALL else IMAGES])
    kept: dict[str, FedLayer] = {}
    # Layer by layer, so that the device holds an input no longer than it has to.
    for name in list(found):
        layer = found.pop(name)
        if layer.neuron is not None:
            own, bn = copy.deepcopy((layer.layer, layer.bn))
            kept[name] = FedLayer(
                name=name, layer=own.cpu(), bn=None if bn is None else bn.cpu(), params=neuron_params(layer.neuron),
                x=_narrow(layer.x),
            )  # fmt: skip
    return kept


def _narrow(x: Tensor) -> Tensor:
    """Return the same values on the CPU, in bytes where nothing is lost."""
    small = x.to(torch.uint8)
    return (small if torch.equal(small.to(x.dtype), x) else x).cpu()


def save_layers(layers: Mapping[str, FedLayer], folder: Path) -> list[str]:
    """Write each layer to a file of its own, and return the files in their order."""
    folder.mkdir(parents=True)
    files = [str(folder / f"{i}.pt") for i in range(len(layers))]
    for file, layer in zip(files, layers.values(), strict=True):
        torch.save({f.name: getattr(layer, f.name) for f in fields(layer)} | {"params": asdict(layer.params)}, file)
    return files


def _load_layer(file: str) -> FedLayer:
    with torch.serialization.safe_globals([*MODULES]):
        held = torch.load(file, map_location="cpu", weights_only=True)
    return FedLayer(**{**held, "params": LIFParams(**held["params"])})


def run_layers(task: Task, device: torch.device) -> tuple[Tally, dict[str, str]]:
    """Run the layer of a task, and return its tally and what broke.

    Raises:
        RuntimeError: the device is lost.
    """
    try:
        found = _load_layer(task.file)
        layer, bn = found.layer.to(device), None if found.bn is None else found.bn.to(device)
        return layer_case(layer, bn, found.params, found.x.to(device), task.kernel, task.precision, found.name), {}
    except Exception as e:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        where = f"{task.path} {task.seeds[0]}, {task.kernel}, {task.precision}"
        return Tally(), {where: f"{type(e).__name__}: {e}"[:300]}
    finally:
        if device.type == "cuda":
            # Others use the device: what this task has freed is theirs.
            torch.cuda.empty_cache()
