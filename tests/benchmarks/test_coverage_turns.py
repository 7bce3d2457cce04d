import threading
import time

import pytest

pytest.importorskip("spikingjelly")

from benchmarks.coverage_turns import LONG, LONGEST, Turns, by_cost
from benchmarks.spikingjelly_models import BUILDERS, names


def test_what_takes_long_comes_first_and_what_takes_longest_last():
    found = [builder.name for builder in by_cost(BUILDERS)]
    assert sorted(found) == sorted(names())
    assert tuple(found[: len(LONG)]) == LONG
    assert tuple(found[-len(LONGEST) :]) == LONGEST


def test_every_number_is_given_once(tmp_path):
    got: list[int] = []

    def take():
        turns = Turns(tmp_path, 4, time.time() + 60)
        while (number := turns.claim(20)) is not None:
            got.append(number)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(20))


def test_nothing_is_given_when_building_is_over(tmp_path):
    turns = Turns(tmp_path, 1, time.time() - 1)
    assert turns.left() == 0.0
    assert turns.claim(5) is None


def test_all_wait_for_the_last_one_but_not_for_ever(tmp_path):
    ends = []

    def build(seconds):
        turns = Turns(tmp_path, 2, time.time() + 60)
        time.sleep(seconds)
        turns.built()
        ends.append(time.monotonic())

    threads = [threading.Thread(target=build, args=(s,)) for s in (0.0, 0.6)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(ends) - began >= 0.55
    (tmp_path / "other").mkdir()
    Turns(tmp_path / "other", 2, time.time() - 1).built(grace_s=0.3)
    assert time.monotonic() - max(ends) < 5
