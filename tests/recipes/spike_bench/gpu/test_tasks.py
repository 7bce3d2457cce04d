import os
import sys
import time
from collections import deque

import pytest
import torch

from sparseflow.recipes.spike_bench.gpu.random_layers import Deck, run_task
from sparseflow.recipes.spike_bench.gpu.settings import Budget
from sparseflow.recipes.spike_bench.gpu.tasks import hand_out, share_out

CPU = torch.device("cpu")


# Answers what is even, and dies of the rest; what is above 100 it does not survive at all.
FRAIL = """
import json, os, sys
for line in sys.stdin:
    n = json.loads(line)
    if n > 100 or (n % 2 and not os.path.exists(sys.argv[1] + str(n))):
        open(sys.argv[1] + str(n), "w").close()
        print("noise", file=sys.stderr)
        raise MemoryError(f"no room for {n}")
    print(json.dumps(n * n), flush=True)
"""


def ask(numbers, tmp_path, processes=2, tries=2, seconds=60.0):
    left, given = deque(numbers), {}
    hand_out(
        [sys.executable, "-c", FRAIL, str(tmp_path / "seen")],
        lambda: left.popleft() if left else None,
        lambda n: n,
        lambda n, made, reason: given.update({n: reason or made}),
        Budget(seconds),
        processes,
        dict(os.environ),
        tries=tries,
    )
    return given


def test_what_ended_a_process_is_tried_once_more_by_a_new_one(tmp_path, capfd):
    assert ask([2, 3, 4, 5, 6], tmp_path) == {2: 4, 3: 9, 4: 16, 5: 25, 6: 36}
    assert "no room for 3" in capfd.readouterr().err


def test_what_ends_two_processes_is_given_up_with_its_last_word_and_harms_no_other(tmp_path):
    given = ask([2, 101, 4, 6, 8], tmp_path, processes=1)
    assert given.pop(101) == "the process ended, status 1: MemoryError: no room for 101"
    assert given == {2: 4, 4: 16, 6: 36, 8: 64}


def test_every_question_has_an_answer_or_a_reason_where_all_processes_end(tmp_path):
    given = ask([101, 103, 105, 107], tmp_path, processes=2)
    assert set(given) >= {101, 103}
    assert all("ended" in reason for reason in given.values())
    once = ask([3], tmp_path / "once", processes=1, tries=1)
    assert once == {3: "the process ended, status 1: FileNotFoundError: [Errno 2] No such file or directory: "
                    f"'{tmp_path}/once/seen3'"}  # fmt: skip


def test_what_is_asked_when_the_time_is_up_says_so(tmp_path):
    began = time.monotonic()
    given = {}
    hand_out(
        [sys.executable, "-c", "import time; time.sleep(60)"], iter([1, None]).__next__, lambda n: n,
        lambda n, made, reason: given.update({n: reason}), Budget(1.0), 1, dict(os.environ), tries=2,
    )  # fmt: skip
    assert given == {1: "no time left"}
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_processes_give_what_one_gives():
    alone, together = (Deck([("dense", "fp16")], wanted=5, structures=5) for _ in range(2))
    share_out(alone, run_task, Budget(60.0), CPU, 0)
    share_out(together, run_task, Budget(120.0), CPU, 2)
    assert together.totals == alone.totals
