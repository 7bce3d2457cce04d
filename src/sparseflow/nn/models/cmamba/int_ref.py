"""IntRef: a whole forecaster in integers, the reference of every engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.integers import bind
from sparseflow.nn.models.cmamba.model import CMamba
from sparseflow.ops.fixed_point import Ints

__all__ = ["IntRef"]

_FRACTION = 16


class IntRef:
    """Forecast in NumPy int64 by the arithmetic of `ops/fixed_point`, with every bound asserted.

    Args:
        args: sizes of an "official" network.
        arrays: its integers, from `lowering.lower` or out of a pack.
        batch: windows at a time; few fit the caches.
    """

    def __init__(self, args: ModelArgs, arrays: Mapping[str, NDArray[np.integer]], batch: int = 8) -> None:
        self.args, self.arrays, self.batch = args, arrays, batch
        self.model = CMamba(args, "int8")
        bind(self.model, arrays)

    def codes(self, x: Any) -> Ints:
        """Return the forecast `[B, V, F]` with 16 fraction bits.

        Args:
            x: readings `[B, V, L]`, floats (tensor or array) or integers with 16 fraction bits.

        Raises:
            DataError: readings of another shape, not finite, or a value beyond its bound.
        """
        readings = _array(x)
        chunks = [self.model(readings[i : i + self.batch]) for i in range(0, len(readings), self.batch)]
        return (
            np.concatenate(chunks)
            if chunks
            else np.zeros((0, self.args.num_channels, self.args.forecast_len), np.int64)
        )

    def __call__(self, x: Any) -> NDArray[np.float64]:
        """Return the forecast `[B, V, F]` in the units of the readings, as `codes` takes them."""
        return self.codes(x) / 2.0**_FRACTION

    def taps(self, x: Any) -> dict[str, Ints]:
        """Return the codes of every tensor by name, in the order in which they are made, as `codes` takes readings."""
        found: dict[str, Ints] = {}
        try:
            bind(self.model, self.arrays, found.__setitem__)
            self.model(_array(x))
        finally:
            bind(self.model, self.arrays)
        return found


def _array(x: Any) -> NDArray[Any]:
    return x.detach().cpu().double().numpy() if isinstance(x, torch.Tensor) else np.asarray(x)
