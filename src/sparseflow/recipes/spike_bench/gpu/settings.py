"""What a GPU bench measures, for how long, and the device that it runs on."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata

import torch

from sparseflow.errors import ConfigError
from sparseflow.ops.spike_layer import KERNELS

__all__ = [
    "PROTOCOL",
    "STAGES",
    "TARGETS",
    "Budget",
    "GpuBenchConfig",
    "cores",
    "device_name",
    "fast_dense",
    "strict",
    "versions",
]

TARGETS = ("h200", "h100")
STAGES = ("blocks", "seed", "correct", "memory", "network", "coverage")
# How the time of one call is shared among stages that run in it.
SHARES = {"blocks": 3.0, "seed": 2.0, "correct": 1.5, "memory": 1.0, "network": 5.0, "coverage": 5.0}
# Processes side by side, at most: each has a share of the device's memory.
CREW = 24
PROTOCOL = (
    "At least 20 warm-up calls and 100 rounds a quoted figure, medians and interquartile ranges, both sides in one "
    "process and in interleaved rounds; a ratio is the median of the per-round ratios. Time is read from CUDA events "
    "around replays of a CUDA graph where the mode allows it ('graph'), around back-to-back calls where not ('calls'). "
    "Everything that one forward needs is inside the timer: occupancy and other metadata, layout, reset of state. "
    "Single blocks turn over several sets of inputs and outputs, the same number on both sides; bytes a set and the "
    "size of the L2 cache are in the record. The rival is the fastest of eager, compile, compile reduce-overhead and "
    "compile max-autotune, in float32 with TF32, float16 and bfloat16, contiguous and channels_last, with batch norm "
    "folded and stateless neurons, and of SpikingJelly with its own kernels; max-autotune and reduce-overhead run for "
    "the two fastest of the compiled variants. torch._dynamo is reset before each rival. A variant that did not run "
    "is in the record with its reason. The rival is chosen in a measurement of its own; only a second one is quoted."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuBenchConfig:
    """Settings of `sparseflow spike bench --target h200`.

    Args:
        target: "h200" or "h100"; the device's name must hold it.
        only: stages to run, of `STAGES`; all if empty.
        out: file for the record. A record of the same device that is already there is completed.
        quick: a smoke run of about a minute; its figures are marked and hold no check.
        budget_s: wall time of the whole call; no rival is started past it.
        checkpoints: paths or shipped names of trained networks, for the network and correctness stages.
        cases: networks of the network stage, as "sew_resnet18" or "sew_resnet18:32" for 32 images; all if empty.
        part: which builders the coverage stage takes, "1/2" for the first of every two; all if empty.
        kernels: kernels of `ops.spike_layer` to choose from; all but the dense one and the pair behind a gate.
        precision: precision of the quoted figures.
        rounds: timed rounds of a quoted figure.
        warmup: untimed calls before them.
        configurations: random configurations of the correctness stage, for each kernel and precision.
        warm: compile the rivals in parallel processes first.
        helpers: processors for processes of which nothing is timed, as "2-15,18-31"; they run at the lowest
            priority, so that they may lie beside those of a call that times. This process's own if empty.
        device: "cuda", or "cpu" to try the code without one.
        commit: what was measured, where the tree itself does not tell.
        seed: seed of weights and synthetic spikes.

    Raises:
        ConfigError: an unknown target or stage, or a count or time out of range.
    """

    target: str = "h200"
    only: tuple[str, ...] = ()
    out: str | None = None
    quick: bool = False
    budget_s: float = 570.0
    checkpoints: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    part: str = ""
    kernels: tuple[str, ...] = tuple(k for k in KERNELS if k not in ("dense", "gated"))
    precision: str = "fp16"
    rounds: int = 100
    warmup: int = 20
    configurations: int = 200
    warm: bool = True
    helpers: str = ""
    device: str = "cuda"
    commit: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.target not in TARGETS:
            raise ConfigError(f"target is {self.target!r}; the GPU bench measures {', '.join(TARGETS)}")
        unknown = set(self.only) - set(STAGES)
        if unknown:
            raise ConfigError(f"unknown stages {sorted(unknown)}; there are {', '.join(STAGES)}")
        if self.budget_s <= 0 or not self.kernels:
            raise ConfigError("the bench needs a positive time and at least one kernel")
        if any(not re.fullmatch(r"\w+(:[1-9]\d*)?", case) for case in self.cases):
            raise ConfigError(f"cases are {', '.join(self.cases)}; expected a builder, or builder:images")
        if self.part and not 1 <= self.share()[0] <= self.share()[1]:
            raise ConfigError(f"part is {self.part!r}; expected as 1/2, the first of two")
        if not re.fullmatch(r"(\d+(-\d+)?(,\d+(-\d+)?)*)?", self.helpers):
            raise ConfigError(f"helpers is {self.helpers!r}; expected processors as 2-15,18-31")
        for name in ("rounds", "warmup", "configurations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages of this call, in the order in which they run."""
        return tuple(s for s in STAGES if not self.only or s in self.only)

    def wants(self, builder: str, batch: int) -> bool:
        """Tell whether the network stage shall time a builder with so many images."""
        return not self.cases or builder in self.cases or f"{builder}:{batch}" in self.cases

    def share(self) -> tuple[int, int]:
        """Return which share of the builders the coverage stage takes, and of how many.

        Raises:
            ConfigError: it is no share.
        """
        found = re.fullmatch(r"(\d+)/(\d+)", self.part or "1/1")
        if found is None:
            raise ConfigError(f"part is {self.part!r}; expected as 1/2, the first of two")
        return int(found[1]), int(found[2])

    def crew(self) -> tuple[int, tuple[str, ...]]:
        """Return how many processes may work side by side where nothing is timed, and with what their command begins.

        >>> GpuBenchConfig(helpers="2-15,18-31").crew()
        (24, ('nice', '-n', '19', 'taskset', '-c', '2-15,18-31'))
        """
        if not self.helpers:
            return max(1, min(CREW, cores() - 1)), ()
        ends = [[int(n) for n in part.split("-")] for part in self.helpers.split(",")]
        count = sum(end[-1] - end[0] + 1 for end in ends)
        return max(1, min(CREW, count)), ("nice", "-n", "19", "taskset", "-c", self.helpers)

    def timing(self) -> tuple[int, int]:
        """Return warm-up calls and rounds of a quoted figure."""
        return (2, 5) if self.quick else (self.warmup, self.rounds)


@dataclass(slots=True)
class Budget:
    """Seconds left for a piece of work.

    Args:
        seconds: how long it may take.
        started: when it began, on the clock of `time.monotonic`.
    """

    seconds: float
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds that are left, 0 at least."""
        return max(0.0, self.seconds - (time.monotonic() - self.started))

    def share(self, parts: float, of: float) -> "Budget":
        """Return a budget with `parts / of` of what is left."""
        return Budget(self.left() * parts / of if of > 0 else 0.0)


def cores() -> int:
    """Return the processors that this process may use, which `taskset` may have made fewer."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(device: torch.device) -> str:
    """Return the name of the device as its driver gives it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def versions() -> dict[str, str]:
    """Return the versions of the packages on either side, by name."""
    found = {"torch": str(torch.__version__)}
    for name in ("triton", "spikingjelly", "nvidia-cudnn-cu13"):
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


@contextmanager
def fast_dense() -> Iterator[None]:
    """Give the dense side TF32 and cuDNN's own search, and restore both afterwards."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    cudnn.benchmark, cudnn.allow_tf32 = True, True
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.allow_tf32 = before[0], before[1]
        torch.set_float32_matmul_precision(before[2])


@contextmanager
def strict() -> Iterator[None]:
    """Compute float32 in float32, without TF32, for references.

    Convolutions are plain sums of products, not cuDNN's: its transforms (Winograd, FFT) round sums that are exact on
    the grids of trained weights, and potentials that lie on the threshold then tip.
    """
    cudnn = torch.backends.cudnn
    before = cudnn.enabled, cudnn.allow_tf32, torch.get_float32_matmul_precision()
    cudnn.enabled, cudnn.allow_tf32 = False, False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        cudnn.enabled, cudnn.allow_tf32 = before[0], before[1]
        torch.set_float32_matmul_precision(before[2])
