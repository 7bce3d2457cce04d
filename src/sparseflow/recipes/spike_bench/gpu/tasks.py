"""Tasks that several processes on one device take in turn; nothing that is timed runs so."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import torch

from sparseflow.ir.env import inherited
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.settings import Budget

__all__ = ["Task", "Tasks", "answer", "hand_out", "share_out"]

T = TypeVar("T")

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


def share_out(
    tasks: Tasks, run: Runner, budget: Budget, device: torch.device, processes: int, prefix: Sequence[str] = ()
) -> None:
    """Run tasks in so many processes, or in this one for 0, until all are done or the time is up.

    A process that dies leaves its task in the errors, and the others go on.

    Args:
        tasks: the tasks.
        run: runs one; a function at the top of a module.
        budget: time.
        device: where they run.
        processes: how many.
        prefix: with what the command of a process begins.
    """
    if processes == 0:
        while budget.left() > 0 and (task := tasks.take()) is not None:
            tasks.put(task, *run(task, device))
        return

    def put(task: Task, made: Any, reason: str) -> None:
        if reason:
            tasks.put(
                task, Tally(), {f"{task.path or 'random'} {task.seeds[0]}, {task.kernel}, {task.precision}": reason}
            )
        else:
            tasks.put(task, Tally.of(made["tally"]), made["errors"])

    code = f"from {__spec__.name} import answer; from {run.__module__} import {run.__name__} as run; answer(run)"
    env = inherited(OMP_NUM_THREADS="1", TORCHINDUCTOR_COMPILE_THREADS="1")
    hand_out([*prefix, sys.executable, "-c", code, str(device)], tasks.take, asdict, put, budget, processes, env)


def hand_out(
    command: Sequence[str],
    take: Callable[[], T | None],
    ask: Callable[[T], Any],
    put: Callable[[T, Any, str], None],
    budget: Budget,
    processes: int,
    env: dict[str, str],
) -> None:
    """Let processes answer questions, one line of JSON each, until there are none or the time is up.

    Args:
        command: starts a process that answers every line of its standard input by one of its output.
        take: returns what comes next, or None if there is nothing; called by several threads.
        ask: returns the question as plain data.
        put: takes what was asked, the answer, and why there is none, else an empty text; called by several threads.
        budget: time.
        processes: how many.
        env: their environment.
    """
    running = [
        subprocess.Popen(list(command), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    ]

    def serve(process: "subprocess.Popen[str]") -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        while budget.left() > 0 and (task := take()) is not None:
            try:
                process.stdin.write(json.dumps(ask(task)) + "\n")
                process.stdin.flush()
                made = json.loads(process.stdout.readline())
            except (OSError, ValueError):
                put(task, None, "no time left" if budget.left() <= 0 else f"the process ended, status {process.poll()}")
                break
            put(task, made, "")
        process.stdin.close()

    hands = [threading.Thread(target=serve, args=(process,), daemon=True) for process in running]
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


def answer(run: Runner) -> None:
    """Answer one task a line of the standard input, until there is none; the device is the first argument."""
    device = torch.device(sys.argv[1])
    for line in sys.stdin:
        given = json.loads(line)
        tally, errors = run(Task(**{**given, "seeds": tuple(given["seeds"])}), device)
        print(json.dumps({"tally": asdict(tally), "errors": errors}), flush=True)
