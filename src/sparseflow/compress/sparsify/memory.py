"""Remember kernel times in the record store, so that the same layer is not timed twice."""

from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from sparseflow.cost import op_source
from sparseflow.errors import RecordError
from sparseflow.ir import Decision, Layer, Target
from sparseflow.nn import spike_block, spike_layer_block
from sparseflow.ops import spike_layer
from sparseflow.records import Key, Record, Store, source_hash

__all__ = ["PACKED", "Memory"]

PACKED = "packed "
"""What the form of a layer of `ops.spike_layer` begins with."""
_CODE = (".py", ".cu", ".cuh")


class Memory:
    """Kernel times by layer, kernel, target and thread count.

    Args:
        store: where they live; None remembers nothing but packed layers, for as long as this object lives: a deep
            network repeats its layers.
        target: the device they hold for.
    """

    def __init__(self, store: Store | None, target: Target) -> None:
        self.store, self.target = store, target
        self._here: dict[tuple[str, str, str], float] = {}

    def key(self, layer: Layer, kernel: str, form: str) -> Key:
        """Return the key of one time."""
        return Key(
            layer=layer.key,
            decision=Decision(kernel=kernel, fuse=form or None).key,
            target=getattr(self.target, "key", self.target.name),
            protocol=f"optimize threads={torch.get_num_threads()}",
            source=_source(op_source(layer, Decision(kernel=kernel)), form),
        )

    def recall(self, layer: Layer, kernels: tuple[str, ...], form: str = "") -> dict[str, float] | None:
        """Return seconds by kernel if every one of them was timed before, else None."""
        if self.store is None:
            return self._recall_here(layer, kernels, form)
        times: dict[str, float] = {}
        for kernel in kernels:
            known = self.store.find(self.key(layer, kernel, form))
            if not known or known[-1].value is None:
                return None
            times[kernel] = known[-1].value
        return times

    def keep(self, layer: Layer, times: dict[str, float], form: str = "") -> None:
        """Store what was timed; a store that refuses is passed over, since times can be measured again."""
        if self.store is None:
            if form.startswith(PACKED):
                self._here |= {(layer.key, kernel, form): seconds for kernel, seconds in times.items()}
            return
        records = [
            Record(
                key=self.key(layer, kernel, form),
                value=seconds,
                name=layer.name,
                decision={"kernel": kernel, "fuse": form},
                run="optimize",
            )
            for kernel, seconds in times.items()
        ]
        try:
            self.store.extend(records)
        except RecordError:
            self.store = None

    def _recall_here(self, layer: Layer, kernels: tuple[str, ...], form: str) -> dict[str, float] | None:
        if not form.startswith(PACKED):
            return None
        keys = [(layer.key, kernel, form) for kernel in kernels]
        return {key[1]: self._here[key] for key in keys} if all(key in self._here for key in keys) else None


@cache
def _source(op: str, form: str) -> str:
    """Hash the code behind a time: the operator with its compiled kernels, and the block that calls it."""
    files: list[Path] = []
    if form.startswith(PACKED):
        folder = Path(spike_layer.__file__).parent
        files = [Path(spike_layer_block.__file__), *sorted(f for f in folder.iterdir() if f.suffix in _CODE)]
    elif form:
        files = [Path(spike_block.__file__)]
    return source_hash(op, version("sparseflow"), *files)
