"""How fast this machine moves floats, which bounds what any layer between float tensors can gain."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from sparseflow.cost.measure import measure
from sparseflow.ops.lif import pack_spikes, unpack_spikes

__all__ = ["MemorySpeed", "memory_speed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemorySpeed:
    """Speed of the memory behind the caches, as a number of threads gets it.

    Args:
        threads: that number.
        read: bytes a second of reading.
        write: bytes a second of writing memory that is mapped.
    """

    threads: int
    read: float
    write: float

    def seconds(self, read: int, written: int) -> float:
        """Return the least time for so many bytes.

        >>> MemorySpeed(threads=1, read=2e10, write=1e10).seconds(2 * 10**7, 10**7)
        0.002
        """
        return read / self.read + written / self.write

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def memory_speed(floats: int = 1 << 26, repeats: int = 7) -> MemorySpeed:
    """Measure the memory with the threads that torch has now; the best of several ways counts.

    Args:
        floats: length of the array, which should be several times the last cache.
        repeats: rounds, of which the median counts.
    """
    x = torch.zeros(1, floats // 32, 1, 32).permute(0, 3, 1, 2)
    flat, words = x.permute(0, 2, 3, 1).flatten(), torch.zeros((1, floats // 32, 1, 1), dtype=torch.int32)
    reads: dict[str, Callable[[], Any]] = {"pack": lambda: pack_spikes(x), "sum": flat.sum, "max": flat.max}
    writes: dict[str, Callable[[], Any]] = {"unpack": lambda: unpack_spikes(words, 32), "zero": flat.zero_}
    with torch.no_grad():
        found = measure({**reads, **writes}, repeats=repeats)
    return MemorySpeed(
        threads=torch.get_num_threads(),
        read=4 * floats / min(found[k].median_s for k in reads),
        write=4 * floats / min(found[k].median_s for k in writes),
    )
