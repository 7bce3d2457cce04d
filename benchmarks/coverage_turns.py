"""How processes of the coverage benchmark share builders and a device: they build side by side and measure in turn."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.spikingjelly_models import Builder

__all__ = ["COSTS", "Cost", "Turns", "by_cost", "cost_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a builder takes.

    Args:
        build_s: seconds in which its forms are compiled, beside 14 other processes on 16 processors.
        turn_s: seconds in which it has the device for itself.
    """

    build_s: float
    turn_s: float


# The slower of two runs on one H200 (torch 2.11, Xeon, 2026-11).
COSTS = {
    name: Cost(build_s=build, turn_s=turn)
    for name, (build, turn) in {
        "qkformer_10_384": (179, 9), "sew_resnext50_32x4d": (165, 8), "maxformer_10_384": (145, 12),
        "sdt_8_384": (145, 13), "sew_resnet101": (141, 12), "spiking_resnet101": (119, 9),
        "spiking_resnet50": (104, 6), "masnn_dvs128_gesture": (103, 5), "spiking_resnext50_32x4d": (100, 5),
        "sew_resnet50": (100, 8), "spikformer_s": (99, 8), "sew_wide_resnet50_2": (79, 8), "sew_resnet34": (79, 5),
        "sew_resnet18": (78, 4), "spikformer_ti": (77, 5), "spiking_wide_resnet50_2": (74, 8),
        "spiking_resnet34": (71, 5), "att_ms_resnet18": (70, 8), "maxformer_cifar": (68, 7), "ms_resnet34": (65, 4),
        "spikformer_cifar10": (61, 6), "max_resnet18": (57, 4), "spiking_resnet18": (56, 3), "spiking_vgg11": (38, 2),
        "spiking_vgg13": (36, 2), "DVSGestureNet": (27, 2), "spiking_vgg19_bn": (26, 3), "ms_resnet18": (24, 3),
        "spiking_vgg16_bn": (21, 3), "spiking_vgg13_bn": (20, 3), "spiking_vgg11_bn": (19, 2), "CIFAR10Net": (18, 2),
        "MNISTNet": (13, 1), "ottt_spiking_vgg11_ws": (1, 1), "ottt_spiking_vggws": (1, 1),
    }.items()
}  # fmt: skip
UNKNOWN = Cost(build_s=80.0, turn_s=6.0)
# Seconds of the table that count as seen, so that the first builder alone does not set the pace.
PRIOR_S = 60.0
# Seconds that a builder's turn takes beside what was measured of it, and that are kept free at the end.
BETWEEN_S, SLACK_S = 1.5, 8.0
# Fewer builders than this share of the processes still being built are not waited for.
FEW = 0.25
# A builder that takes so many times as long as expected is given up.
PATIENCE = 3.0


def cost_of(builder: Builder) -> Cost:
    """Return what a builder is known to take, or a middling guess."""
    return COSTS.get(builder.name, UNKNOWN)


def by_cost(builders: Sequence[Builder]) -> list[Builder]:
    """Return builders in the order in which processes shall take them: what takes longest first."""
    return sorted(builders, key=lambda builder: -cost_of(builder).build_s)


class Turns:
    """A folder through which processes agree on who builds what, and on who has the device.

    Each builder is open, being built, built, measured, or out with a reason. Measuring begins when hardly
    anything is being built any more, or when the time that is left is just what measuring takes: what is
    built later is measured when it is there.

    Args:
        folder: the folder, the same for all.
        builders: the builders in the order in which they are taken, the same for all.
        processes: how many there are.
        ends: time on the clock at which everything ends.
        clock: seconds, the same for all processes.
    """

    def __init__(
        self,
        folder: Path,
        builders: Sequence[Builder],
        processes: int,
        ends: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.builders, self.processes, self.ends, self.clock = folder, builders, processes, ends, clock

    def left(self) -> float:
        """Return the seconds that are left, 0 at least."""
        return max(0.0, self.ends - self.clock())

    def claim(self) -> int | None:
        """Return the number of a builder for this process, each given once, or None if none can still end."""
        with self._state() as state:
            for number in range(len(self.builders)):
                if state["at"].get(str(number), "open") == "open":
                    needs = self._needs(state, number)
                    if needs <= self.left():
                        state["at"][str(number)] = "building"
                        state["by"][str(number)] = [os.getpid(), self.clock()]
                        return number
        return None

    def patience(self, number: int) -> float:
        """Return the seconds that the build of a builder may take before it is given up."""
        with self._state() as state:
            cost = cost_of(self.builders[number])
            expected = self._pace(state, "build") * cost.build_s
            return min(PATIENCE * expected + 30.0, self.left() - cost.turn_s)

    def built(self, number: int) -> None:
        """Say that a builder waits for its turn."""
        with self._state() as state:
            began = state["by"][str(number)][1]
            self._learn(state, "build", cost_of(self.builders[number]).build_s, self.clock() - began)
            state["at"][str(number)] = "built"

    def measured(self, number: int, seconds: float) -> None:
        """Say that a builder has had its turn, and how many seconds it took."""
        with self._state() as state:
            self._learn(state, "turn", cost_of(self.builders[number]).turn_s, seconds)
            state["at"][str(number)] = "measured"

    def out(self, number: int, reason: str) -> None:
        """Say why a builder has no result."""
        with self._state() as state:
            state["at"][str(number)] = reason

    def lost(self, process: int, reason: str) -> None:
        """Give what a process had when it ended to another one, once; what ended two is out with the reason."""
        with self._state() as state:
            for number, (pid, _) in list(state["by"].items()):
                if pid == process and state["at"][number] in ("building", "built"):
                    state["at"][number] = reason if number in state["lost"] else "open"
                    state["lost"][number] = reason

    def building(self) -> int:
        """Return how many builders are being built."""
        with self._state() as state:
            return list(state["at"].values()).count("building")

    def more(self) -> bool:
        """Tell whether a builder is not yet measured that still can be."""
        with self._state() as state:
            return not {"building", "built"}.isdisjoint(state["at"].values()) or bool(self._open(state))

    def due(self) -> bool:
        """Tell whether what is built may be measured."""
        with self._state() as state:
            building = list(state["at"].values()).count("building")
            if not self._open(state) and building <= FEW * self.processes:
                return True
            waiting = [i for i in range(len(self.builders)) if self._at(state, i) in ("open", "building", "built")]
            turns = sum(cost_of(self.builders[i]).turn_s + BETWEEN_S for i in waiting)
            return self.left() <= SLACK_S + self._pace(state, "turn") * turns

    @contextmanager
    def device(self) -> Iterator[bool]:
        """Hold the device while the block runs, if nobody else does; the block is told whether it has it."""
        with open(self.folder / "device", "a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            try:
                yield True
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)

    def reasons(self) -> dict[str, str]:
        """Return why each builder that was not measured has no result, by name."""
        found = {}
        with self._state() as state:
            for number, builder in enumerate(self.builders):
                at = self._at(state, number)
                if at == "open" and str(number) in state["lost"]:
                    at = f"not begun again after {state['lost'][str(number)]}"
                elif at == "open":
                    needs = self._needs(state, number)
                    at = f"not begun: it needs about {needs:.0f} s, and fewer were left to whoever was free"
                elif at == "building":
                    since = self.clock() - state["by"][str(number)][1]
                    at = f"not built when the time was up, after {since:.0f} s"
                elif at == "built":
                    at = "built, but the time was up before its turn on the device"
                if at != "measured":
                    found[builder.name] = at
        return found

    def _needs(self, state: dict[str, Any], number: int) -> float:
        cost = cost_of(self.builders[number])
        return self._pace(state, "build") * cost.build_s + self._pace(state, "turn") * cost.turn_s

    def _open(self, state: dict[str, Any]) -> list[int]:
        return [
            i
            for i in range(len(self.builders))
            if self._at(state, i) == "open" and self._needs(state, i) <= self.left()
        ]

    @staticmethod
    def _at(state: dict[str, Any], number: int) -> str:
        at: str = state["at"].get(str(number), "open")
        return at

    @staticmethod
    def _learn(state: dict[str, Any], what: str, expected: float, took: float) -> None:
        pace = state["pace"].setdefault(what, [PRIOR_S, PRIOR_S])
        pace[0], pace[1] = pace[0] + expected, pace[1] + took

    @staticmethod
    def _pace(state: dict[str, Any], what: str) -> float:
        """Return how many times as long as expected things take here."""
        expected, took = state["pace"].get(what, (1.0, 1.0))
        return float(took / expected)

    @contextmanager
    def _state(self) -> Iterator[dict[str, Any]]:
        with open(self.folder / "state", "a+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read()
            state = json.loads(text) if text else {"at": {}, "by": {}, "lost": {}, "pace": {}}
            yield state
            file.seek(0)
            file.truncate()
            file.write(json.dumps(state))
