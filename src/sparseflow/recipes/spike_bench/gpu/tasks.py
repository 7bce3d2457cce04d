"""Tasks that several processes on one device take in turn; nothing that is timed runs so."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch

from sparseflow.ir.env import inherited
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.settings import Budget

__all__ = ["Task", "Tasks", "answer", "share_out"]

Runner = Callable[["Task", torch.device], tuple[Tally, dict[str, str]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Layers for one kernel.

    Args:
        kernel: kernel of `spike_layer`.
        precision: its precision.
        seeds: seeds of `draw_layer`, or numbers of layers of the network at `path`.
        path: a trained network, or empty for random layers.
    """

    kernel: str
    precision: str
    seeds: tuple[int, ...]
    path: str = ""


class Tasks(Protocol):
    """Where tasks come from, and where their results go; safe for several threads."""

    def take(self) -> Task | None:
        """Return the next task, or None if there is none."""

    def put(self, task: Task, tally: Tally, errors: dict[str, str]) -> None:
        """Take note of what a task gave."""


def share_out(tasks: Tasks, run: Runner, budget: Budget, device: torch.device, processes: int) -> None:
    """Run tasks in so many processes, or in this one for 0, until all are done or the time is up.

    A process that dies leaves its task in the errors, and the others go on.

    Args:
        tasks: the tasks.
        run: runs one; a function at the top of a module.
        budget: time.
        device: where they run.
        processes: how many.
    """
    if processes == 0:
        while budget.left() > 0 and (task := tasks.take()) is not None:
            tasks.put(task, *run(task, device))
        return
    code = f"from {__spec__.name} import answer; from {run.__module__} import {run.__name__} as run; answer(run)"
    env = inherited(OMP_NUM_THREADS="1", TORCHINDUCTOR_COMPILE_THREADS="1")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(device)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(processes)
    ]
    hands = [threading.Thread(target=_serve, args=(tasks, process, budget), daemon=True) for process in running]
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


def _serve(tasks: Tasks, process: "subprocess.Popen[str]", budget: Budget) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    while budget.left() > 0 and (task := tasks.take()) is not None:
        try:
            process.stdin.write(json.dumps(asdict(task)) + "\n")
            process.stdin.flush()
            made: dict[str, Any] = json.loads(process.stdout.readline())
            found = Tally.of(made["tally"])
        except (OSError, ValueError):
            reason = "no time left" if budget.left() <= 0 else f"the process ended, status {process.poll()}"
            what = f"{task.path or 'random'} {task.seeds[0]}, {task.kernel}, {task.precision}"
            tasks.put(task, Tally(), {what: reason})
            break
        tasks.put(task, found, made["errors"])
    process.stdin.close()


def answer(run: Runner) -> None:
    """Answer one task a line of the standard input, until there is none; the device is the first argument."""
    device = torch.device(sys.argv[1])
    for line in sys.stdin:
        given = json.loads(line)
        tally, errors = run(Task(**{**given, "seeds": tuple(given["seeds"])}), device)
        print(json.dumps({"tally": asdict(tally), "errors": errors}), flush=True)
