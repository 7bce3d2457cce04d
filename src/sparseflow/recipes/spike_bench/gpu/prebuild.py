"""Build the kernels of a network's layers in one of several processes, each a share of the layers."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from sparseflow.compress.sparsify import tune_gpu
from sparseflow.compress.sparsify.tune import Timed
from sparseflow.recipes.spike_bench.gpu.nets import optimized

__all__ = ["build_share", "only_share"]


@contextmanager
def only_share(number: int, of: int) -> Iterator[None]:
    """Let the block time every `of`-th packed layer alone, beginning with the one of `number`."""
    tuner: Any = tune_gpu._Tuner
    whole, count = tuner.time, itertools.count()

    def time(self: Any, *args: Any) -> Timed:
        timed: Timed = whole(self, *args) if next(count) % of == number else Timed()
        return timed

    tuner.time = time
    try:
        yield
    finally:
        tuner.time = whole


def build_share(model: nn.Module, x: Tensor, precision: str, number: int, of: int) -> None:
    """Optimise a network of which only a share of the layers is timed.

    The kernels built for it stay in the cache on disk, where the process that
    measures finds them; the network and the times are dropped.

    Args:
        model: network.
        x: its input.
        precision: its precision.
        number: which share, from 0.
        of: how many shares.
    """
    with only_share(number, of):
        optimized(model, x, precision)
