"""Tasks that several processes on one device take in turn; nothing that is timed runs so."""

import json
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, Any, Protocol, TypeVar

import torch

from sparseflow.ir.env import inherited
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.settings import Budget

__all__ = ["Task", "Tasks", "answer", "hand_out", "share_out"]

T = TypeVar("T")

Runner = Callable[["Task", torch.device], tuple[Tally, dict[str, str]]]
# A process that dies is started again so often, where what it did is tried by another one.
RESTARTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Layers for one kernel.

    Args:
        kernel: kernel of `spike_layer`.
        precision: its precision.
        seeds: seeds of `draw_layer`, or numbers of layers of the network at `path`.
        path: a trained network, or empty for random layers.
        file: the file of the layer, where it is one of a trained network.
    """

    kernel: str
    precision: str
    seeds: tuple[int, ...]
    path: str = ""
    file: str = ""


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

    A process that dies is replaced and its task tried once more, by whoever comes next; a task that ends
    two processes stays in the errors, with what the second one said last.

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
    hand_out(
        [*prefix, sys.executable, "-c", code, str(device)], tasks.take, asdict, put, budget, processes, env, tries=2
    )


def hand_out(
    command: Sequence[str],
    take: Callable[[], T | None],
    ask: Callable[[T], Any],
    put: Callable[[T, Any, str], None],
    budget: Budget,
    processes: int,
    env: dict[str, str],
    tries: int = 1,
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
        tries: how many processes a question may end. Above 1, one that has ended is started again.
    """
    again: deque[tuple[T, int]] = deque()

    def next_one() -> tuple[T, int] | None:
        with suppress(IndexError):
            return again.popleft()
        task = take()
        return None if task is None else (task, 1)

    def serve(hand: _Hand) -> None:
        while budget.left() > 0 and (given := next_one()) is not None:
            task, count = given
            try:
                put(task, hand.ask(ask(task)), "")
                continue
            except (OSError, ValueError):
                if budget.left() <= 0:
                    put(task, None, "no time left")
                    break
            reason = hand.ended()
            if count < tries:
                again.append((task, count + 1))
            else:
                put(task, None, reason)
            if tries == 1 or hand.starts > RESTARTS:
                break
            hand.start()
        hand.close()

    hands = [_Hand(command, env) for _ in range(processes)]
    threads = [threading.Thread(target=serve, args=(hand,), daemon=True) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(budget.left())
    for hand in hands:
        hand.stop()
    for thread in threads:
        thread.join(5.0)
    # Those who might have tried them once more were gone themselves.
    for task, _ in again:
        put(task, None, "no time left" if budget.left() <= 0 else "the process ended, and no other one was left")


class _Hand:
    """A process that answers lines, and the file that holds what it writes beside its answers."""

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.command, self.env, self.starts, self.stopped = list(command), env, 0, False
        self.start()

    def start(self) -> None:
        self.starts += 1
        # Open as long as the process runs.
        self.said: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            self.command, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.said, text=True
        )
        if self.stopped:
            self.process.kill()

    def ask(self, question: Any) -> Any:
        """Return the answer.

        Raises:
            OSError: the process takes no more.
            ValueError: it has ended, or its answer is no JSON.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def ended(self) -> str:
        """Stop the process, and say how it ended and what it said last."""
        self.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        status = self.process.poll()
        self.process.kill()
        return f"the process ended, status {status}: {self.tell() or 'it said nothing'}"

    def close(self) -> None:
        """Ask nothing more; the process ends, and what it holds of the device is free."""
        with suppress(OSError):
            assert self.process.stdin is not None
            self.process.stdin.close()

    def tell(self) -> str:
        """Pass on what the process wrote, and return the line that says most: of its error, else the last one."""
        text = ""
        # Closed by whoever told it before.
        with suppress(ValueError):
            self.said.seek(0)
            text = self.said.read()
            self.said.close()
        sys.stderr.write(text)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.partition(":")[0].endswith(("Error", "Exception"))]
        return (errors or lines or [""])[-1][:300]

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.stopped = True
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.tell()


def answer(run: Runner) -> None:
    """Answer one task a line of the standard input, until there is none; the device is the first argument."""
    device = torch.device(sys.argv[1])
    for line in sys.stdin:
        given = json.loads(line)
        tally, errors = run(Task(**{**given, "seeds": tuple(given["seeds"])}), device)
        print(json.dumps({"tally": asdict(tally), "errors": errors}), flush=True)
