import heapq
import threading
import time
from dataclasses import replace

import pytest

pytest.importorskip("spikingjelly")

from benchmarks import coverage_turns
from benchmarks.coverage_turns import COSTS, Cost, Turns, by_cost, cost_of
from benchmarks.spikingjelly_models import BUILDERS, names

FOUR = [replace(BUILDERS[0], name=f"n{i}") for i in range(4)]


@pytest.fixture
def turns(tmp_path):
    return lambda seconds=1000.0, processes=4, builders=FOUR: Turns(
        tmp_path, builders, processes, time.time() + seconds
    )


def test_what_takes_longest_comes_first_and_every_cost_is_of_a_builder():
    found = by_cost(BUILDERS)
    assert sorted(b.name for b in found) == sorted(names()) == sorted(COSTS)
    seconds = [cost_of(b).build_s for b in found]
    assert seconds == sorted(seconds, reverse=True)
    assert cost_of(FOUR[0]) == coverage_turns.UNKNOWN


def test_every_number_is_given_once(tmp_path):
    got: list[int] = []
    builders = [replace(BUILDERS[0], name=f"n{i}") for i in range(20)]

    def take():
        turns = Turns(tmp_path, builders, 4, time.time() + 1000)
        while (number := turns.claim()) is not None:
            got.append(number)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(20))


def test_what_cannot_end_is_not_begun_and_what_can_is(turns, monkeypatch):
    monkeypatch.setitem(COSTS, "n0", Cost(build_s=500, turn_s=5))
    monkeypatch.setitem(COSTS, "n1", Cost(build_s=20, turn_s=5))
    short = turns(100.0)
    monkeypatch.setitem(COSTS, "n3", Cost(build_s=90, turn_s=5))
    assert [short.claim() for _ in range(4)] == [1, 2, 3, None]
    assert "not begun: it needs about 505 s" in short.reasons()["n0"]
    short.out(3, "not built: given up after 9 s")
    short.built(2)
    found = short.reasons()
    assert "not built when the time was up" in found["n1"]
    assert "before its turn" in found["n2"]
    assert found["n3"] == "not built: given up after 9 s"
    assert turns(0.0).claim() is None


def test_a_slow_machine_begins_less(turns):
    here = turns(200.0)
    first = here.claim()
    with here._state() as state:
        state["by"][str(first)][1] -= 400.0
    here.built(first)
    # Five times as slow as the table: 80 s would be 280 s.
    assert here.claim() is None
    assert here.patience(1) <= 200.0


def test_measuring_waits_for_what_is_built_but_not_for_a_straggler_nor_past_the_time(turns, monkeypatch):
    here = turns(1000.0)
    assert not here.due()
    numbers = [here.claim() for _ in range(4)]
    for number in numbers[:2]:
        here.built(number)
    assert not here.due()
    here.built(numbers[2])
    assert here.due()
    assert here.building() == 1
    assert here.more()
    # Four turns of 6 s each and what is between them do not wait until 20 s before the end.
    late = turns(20.0)
    assert late.due()


def test_what_a_process_loses_goes_to_another_one_once(turns, monkeypatch):
    here = turns()
    for pid in (11, 12):
        monkeypatch.setattr(coverage_turns.os, "getpid", lambda pid=pid: pid)
        assert here.claim() == 0
        assert here.reasons()["n0"].startswith("not built when")
        here.lost(pid, f"its process ended, status {pid}: no memory")
    assert here.claim() == 1
    assert here.reasons()["n0"] == "its process ended, status 12: no memory"
    here.lost(12, "its process ended")
    assert here.reasons()["n1"] == "not begun again after its process ended"
    here.measured(here.claim(), 1.0)
    assert "n1" not in here.reasons()


def test_one_at_a_time_has_the_device(turns):
    with turns().device() as held:
        assert held
        with turns().device() as second:
            assert not second
    with turns().device() as held:
        assert held


@pytest.mark.parametrize(("pace", "least"), [(1.0, 35), (1.3, 30)])
def test_most_builders_end_in_400_s_of_15_processes(tmp_path, pace, least):
    """Processes as `benchmarks.coverage` runs them, on a clock of their own, as slow as was ever seen, or slower."""
    builders, now, measured = by_cost(BUILDERS), [0.0], []

    def work():
        turns = Turns(tmp_path, builders, 15, 400.0, lambda: now[0])
        waiting: list[int] = []
        yield 15.0
        while turns.left() > 0:
            if (number := turns.claim()) is not None:
                yield pace * cost_of(builders[number]).build_s
                waiting.append(number)
                turns.built(number)
            if waiting and turns.due():
                with turns.device() as held:
                    while held and waiting:
                        mine = waiting.pop()
                        yield cost_of(builders[mine]).turn_s + 1.0
                        turns.measured(mine, cost_of(builders[mine]).turn_s)
                        if turns.left() > 0:
                            measured.append(builders[mine].name)
            elif number is None and not turns.more():
                return
            if number is None:
                yield 1.0

    events = [(0.0, i, work()) for i in range(15)]
    while events:
        now[0], i, process = heapq.heappop(events)
        if (pause := next(process, None)) is not None:
            heapq.heappush(events, (now[0] + pause, i, process))
    assert len(set(measured)) == len(measured) >= least
