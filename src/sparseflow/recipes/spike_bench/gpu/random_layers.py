"""Random layers: few structures, since each is a compilation, and many sizes and values."""

import random
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from sparseflow.ops.conv2d_spike.check import Case, draw
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally, random_case
from sparseflow.recipes.spike_bench.gpu.tasks import Task

__all__ = ["STRUCTURES", "Deck", "draw_layer", "run_task"]

# A multiple of 5, so that the number of a case tells its kind as that of its structure does.
STRUCTURES = 40
ROUNDS = 4
LARGE = 8


def draw_layer(seed: int) -> Case:
    """Return the layer of a seed: the structure of `seed % STRUCTURES` with a size and values of its own.

    Channels, kernel, stride, steps and what kind of neuron it is decide what is
    compiled, and are those of `draw`. Size, images, density, bias, threshold and
    time constant are drawn anew. Every eighth structure has maps so large that a
    kernel does not divide its steps among processors.

    >>> draw_layer(7).kernel_size == draw_layer(47).kernel_size
    True
    """
    base = draw(seed % STRUCTURES)
    rng = random.Random(f"values {seed}")
    (ph, pw), (dh, dw) = base.geometry.padding, base.geometry.dilation
    kh, kw = base.kernel_size
    large = seed % STRUCTURES % LARGE == LARGE - 1
    more = 40 if large else 0
    least = (max(1, dh * (kh - 1) + 1 - 2 * ph) + more, max(1, dw * (kw - 1) + 1 - 2 * pw) + more)
    p = base.params
    params = replace(
        p,
        tau=p.tau if p.kind == "if" else 1.0 + rng.uniform(0.2, 3.0),
        v_threshold=rng.choice([0.5, 0.8, 1.0]),
        v_reset=p.v_reset if p.v_reset in (0.0, None) else -rng.uniform(0.1, 0.5),
    )
    return replace(
        base,
        seed=seed,
        size=(least[0] + rng.randrange(13), least[1] + rng.randrange(13)),
        samples=4 if large else rng.randint(1, 3),
        density=rng.choice([0.0, 0.003, 0.01, 0.05, 0.1, 0.2, 0.5, 1.0]),
        bias=rng.random() < 0.7,
        params=params,
    )


@dataclass
class Deck:
    """What is still to be run: every structure once with each kernel, then more of those that it takes.

    Args:
        combinations: kernels and precisions.
        wanted: layers that shall run with each.
        structures: how many of the structures.
        first: changes the seeds.
    """

    combinations: Sequence[tuple[str, str]]
    wanted: int
    structures: int = STRUCTURES
    first: int = 0
    totals: dict[tuple[str, str], Tally] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Deal the first round."""
        self._lock = threading.Lock()
        self._share = -(-self.wanted // self.structures)
        self._ran: dict[tuple[str, str, int], int] = {}
        self._dealt: dict[tuple[str, str, int], int] = {}
        self._todo: deque[Task] = deque()
        self.totals = {pair: Tally() for pair in self.combinations}
        self._out = dict.fromkeys(self.totals, 0)
        for structure in range(self.structures):
            self._todo += [self._task(*pair, structure) for pair in self.combinations]

    def _task(self, kernel: str, precision: str, structure: int) -> Task:
        key = (kernel, precision, structure)
        done = self._dealt.get(key, 0)
        self._dealt[key] = done + 1
        numbers = range(done * self._share, (done + 1) * self._share)
        seeds = tuple(structure + (self.first * 1000 + n) * STRUCTURES for n in numbers)
        return Task(kernel=kernel, precision=precision, seeds=seeds)

    def take(self) -> Task | None:
        """Return the next task, or None if there is none."""
        with self._lock:
            if not self._todo:
                for pair, total in self.totals.items():
                    kept = [s for s in range(self.structures) if self._ran.get((*pair, s))]
                    if total.ran + self._out[pair] < self.wanted:
                        self._todo += [self._task(*pair, s) for s in kept if self._dealt[(*pair, s)] < ROUNDS]
            if not self._todo:
                return None
            task = self._todo.popleft()
            self._out[task.kernel, task.precision] += len(task.seeds)
            return task

    def put(self, task: Task, tally: Tally, errors: dict[str, str]) -> None:
        """Take note of what a task gave."""
        with self._lock:
            self._out[task.kernel, task.precision] -= len(task.seeds)
            self.totals[task.kernel, task.precision].add(tally)
            key = (task.kernel, task.precision, task.seeds[0] % STRUCTURES)
            self._ran[key] = self._ran.get(key, 0) + tally.ran
            self.errors |= errors


def run_task(task: Task, device: torch.device) -> tuple[Tally, dict[str, str]]:
    """Run the layers of a task, and return their tally and what broke.

    Raises:
        RuntimeError: the device is lost, so that nothing after it would be true.
    """
    total, errors = Tally(), {}
    for seed in task.seeds:
        try:
            total.add(random_case(draw_layer(seed), task.kernel, task.precision, device))
        except Exception as e:
            errors[f"random {seed}, {task.kernel}, {task.precision}"] = f"{type(e).__name__}: {e}"[:300]
            if device.type == "cuda":
                # An error of the device stays: the next call would fail with it, and so would every other layer.
                torch.cuda.synchronize(device)
    return total, errors
