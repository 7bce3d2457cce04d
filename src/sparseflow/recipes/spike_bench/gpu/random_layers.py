"""Random layers on the GPU in several processes: few structures, since each is a compilation, and many values."""

import json
import random
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch

from sparseflow.ir.env import inherited
from sparseflow.ops.conv2d_spike.check import Case, draw
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally, random_case
from sparseflow.recipes.spike_bench.gpu.settings import Budget

__all__ = ["STRUCTURES", "Deck", "Task", "draw_layer", "run_random", "run_task"]

# A multiple of 5, so that the number of a case tells its kind as that of its structure does.
STRUCTURES = 40
ROUNDS = 4
LARGE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Layers of one structure for one kernel.

    Args:
        kernel: kernel of `spike_layer`.
        precision: its precision.
        seeds: seeds of `draw_layer`.
    """

    kernel: str
    precision: str
    seeds: tuple[int, ...]


def draw_layer(seed: int, structures: int = STRUCTURES) -> Case:
    """Return the layer of a seed: the structure of `seed % structures` with a size and values of its own.

    Channels, kernel, stride, steps and what kind of neuron it is decide what is
    compiled, and are those of `draw`. Size, images, density, bias, threshold and
    time constant are drawn anew. Every eighth structure has maps so large that a
    kernel does not divide its steps among processors.

    >>> draw_layer(7).kernel_size == draw_layer(47).kernel_size
    True
    """
    base = draw(seed % structures)
    rng = random.Random(f"values {seed}")
    (ph, pw), (dh, dw) = base.geometry.padding, base.geometry.dilation
    kh, kw = base.kernel_size
    large = seed % structures % LARGE == LARGE - 1
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
        structures: how many structures.
        first: first seed.
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
        base = self.first * self.structures
        return Task(
            kernel=kernel, precision=precision, seeds=tuple(base + structure + n * self.structures for n in numbers)
        )

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
            key = (task.kernel, task.precision, task.seeds[0] % self.structures)
            self._ran[key] = self._ran.get(key, 0) + tally.ran
            self.errors |= errors


def run_task(task: Task, device: torch.device, structures: int = STRUCTURES) -> tuple[Tally, dict[str, str]]:
    """Run the layers of a task, and return their tally and what broke.

    Raises:
        RuntimeError: the device is lost, so that nothing after it would be true.
    """
    total, errors = Tally(), {}
    for seed in task.seeds:
        try:
            total.add(random_case(draw_layer(seed, structures), task.kernel, task.precision, device))
        except Exception as e:
            errors[f"random {seed}, {task.kernel}, {task.precision}"] = f"{type(e).__name__}: {e}"[:300]
            if device.type == "cuda":
                # An error of the device stays: the next call would fail with it, and so would every other layer.
                torch.cuda.synchronize(device)
    return total, errors


def run_random(deck: Deck, budget: Budget, device: torch.device, processes: int) -> None:
    """Run a deck in so many processes, or in this one for 0, until it is done or the time is up."""
    if processes == 0:
        while budget.left() > 0 and (task := deck.take()) is not None:
            deck.put(task, *run_task(task, device, deck.structures))
        return
    command = [sys.executable, "-c", f"from {__spec__.name} import main; main()", str(device)]
    env = inherited(OMP_NUM_THREADS="1", TORCHINDUCTOR_COMPILE_THREADS="1")
    running = [
        subprocess.Popen(
            [*command, str(deck.structures)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    hands = [threading.Thread(target=_serve, args=(deck, process, budget), daemon=True) for process in running]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join(budget.left())
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()
    for hand in hands:
        hand.join(5.0)


def _serve(deck: Deck, process: "subprocess.Popen[str]", budget: Budget) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    while budget.left() > 0 and (task := deck.take()) is not None:
        try:
            process.stdin.write(json.dumps(asdict(task)) + "\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
        except (OSError, ValueError):
            reason = "no time left" if budget.left() <= 0 else f"the process ended, status {process.poll()}"
            deck.put(task, Tally(), {f"random {task.seeds[0]}, {task.kernel}, {task.precision}": reason})
            break
        tally = answer["tally"]
        tally |= {"reasons": tuple(tally["reasons"]), "worst": tuple(tally["worst"])}
        deck.put(task, Tally(**tally), answer["errors"])
    process.stdin.close()


def main() -> None:
    """Answer one task a line, until there is none."""
    device, structures = torch.device(sys.argv[1]), int(sys.argv[2])
    for line in sys.stdin:
        given = json.loads(line)
        task = Task(kernel=given["kernel"], precision=given["precision"], seeds=tuple(given["seeds"]))
        tally, errors = run_task(task, device, structures)
        print(json.dumps({"tally": asdict(tally), "errors": errors}), flush=True)
