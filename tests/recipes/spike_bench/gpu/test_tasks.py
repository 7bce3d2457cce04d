import json
import threading

import pytest
import torch

from sparseflow.recipes.spike_bench.gpu import tasks
from sparseflow.recipes.spike_bench.gpu.random_layers import Deck, run_task
from sparseflow.recipes.spike_bench.gpu.settings import Budget
from sparseflow.recipes.spike_bench.gpu.tasks import share_out

CPU = torch.device("cpu")


class Process:
    """Answers one line, then is gone."""

    def __init__(self, *_, **__):
        self.stdin, self.stdout, self.lines = self, self, []
        self.killed = threading.Event()

    def write(self, line):
        if self.lines:
            raise BrokenPipeError
        self.lines.append(json.loads(line))

    def flush(self):
        pass

    def close(self):
        pass

    def readline(self):
        return json.dumps({"tally": {"ran": 1, "reasons": [], "worst": [1.0, ""]}, "errors": {}})

    def poll(self):
        return 1

    def wait(self):
        return 1


def test_a_process_that_dies_leaves_its_task_in_the_errors(monkeypatch):
    monkeypatch.setattr(tasks.subprocess, "Popen", Process)
    deck = Deck([("dense", "fp16")], wanted=10, structures=5)
    share_out(deck, run_task, Budget(20.0), CPU, 2)
    assert deck.totals["dense", "fp16"].ran == 2
    assert len(deck.errors) == 2
    assert all("ended" in reason for reason in deck.errors.values())


@pytest.mark.slow
def test_processes_give_what_one_gives():
    alone, together = (Deck([("dense", "fp16")], wanted=5, structures=5) for _ in range(2))
    share_out(alone, run_task, Budget(60.0), CPU, 0)
    share_out(together, run_task, Budget(120.0), CPU, 2)
    assert together.totals == alone.totals
