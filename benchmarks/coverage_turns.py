"""How processes of the coverage benchmark share builders and a device: all build first, then each measures in turn."""

import fcntl
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.spikingjelly_models import Builder

__all__ = ["Turns", "by_cost"]

# What takes long to compile comes first, so that it is not what all wait for; what takes longest of all comes last,
# and is left out where time is short.
LONG = (
    "sew_resnet50", "spiking_resnet50", "sew_resnext50_32x4d", "spiking_resnext50_32x4d", "maxformer_10_384",
    "qkformer_10_384", "sdt_8_384", "spikformer_s", "sew_resnet34", "spiking_resnet34", "ms_resnet34",
)  # fmt: skip
LONGEST = ("sew_wide_resnet50_2", "spiking_wide_resnet50_2", "sew_resnet101", "spiking_resnet101")


def by_cost(builders: Sequence[Builder]) -> list[Builder]:
    """Return builders in the order in which processes shall take them."""

    def rank(builder: Builder) -> int:
        if builder.name in LONG:
            return LONG.index(builder.name)
        return len(LONG) + (1 + LONGEST.index(builder.name) if builder.name in LONGEST else 0)

    return sorted(builders, key=rank)


class Turns:
    """A folder through which processes agree.

    Args:
        folder: the folder, the same for all.
        processes: how many there are.
        build_until: time on the clock of `time.time` after which nobody builds.
    """

    def __init__(self, folder: Path, processes: int, build_until: float) -> None:
        self.folder, self.processes, self.build_until = folder, processes, build_until

    @property
    def lock(self) -> str:
        """The file whose lock a process holds while it measures."""
        return str(self.folder / "lock")

    def left(self) -> float:
        """Return the seconds that are left to build in, 0 at least."""
        return max(0.0, self.build_until - time.time())

    def claim(self, count: int) -> int | None:
        """Return the number of the next of `count` builders, each given once to one process; None if there is none."""
        with open(self.folder / "next", "a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = len(file.read())
            if number >= count or self.left() <= 0:
                return None
            file.write(".")
        return number

    def built(self, grace_s: float = 10.0) -> None:
        """Say that this process has built all its own, and wait until every process has, or time is up."""
        with open(self.folder / "built", "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(".")
        while len((self.folder / "built").read_text()) < self.processes and time.time() < self.build_until + grace_s:
            time.sleep(0.1)
