import itertools
import os
import signal
import subprocess
import sys

import pytest

from sparseflow.errors import BudgetError, ConfigError, MeasurementError, RecordError
from sparseflow.records import Key, Store
from sparseflow.search import Budget, Evolution, Exhaustive, Failure, Integer, Random, Score, Space, run

SPACE = Space(parameters=(Integer(name="x", low=0, high=9),))
KEY = Key(layer="parabola", decision="any", target="here", protocol="exact")


def parabola(params):
    return float((params["x"] - 6) ** 2 + 1)


def quiet(*args, **kwargs):
    return run(*args, progress=False, **kwargs)


def test_the_best_of_all_is_found_and_told():
    result = quiet(Exhaustive(SPACE), parabola, Budget(trials=100), baseline={"x": 0})
    assert result.best == {"x": 6}
    assert (result.score.value, result.baseline.value, result.gain) == (1.0, 37.0, 37.0)
    assert (result.stopped_by, result.interrupted, result.reused) == ("exhausted", False, 0)
    assert len(result.history) == 10
    assert result.history[0][0].params == {"x": 0}


def test_the_budget_counts_trials_but_not_the_baseline():
    calls = []
    result = quiet(
        Exhaustive(SPACE),
        lambda p: calls.append(p) or 1.0,
        Budget(trials=3),
        baseline={"x": 9},
        remeasure=False,
        batch=2,
    )
    assert [p["x"] for p in calls] == [9, 0, 1, 2]
    assert result.stopped_by == "budget"


def test_the_budget_of_seconds_stops_but_lets_one_trial_through(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("sparseflow.search.loop.time.perf_counter", lambda: float(next(clock)))
    assert len(quiet(Exhaustive(SPACE), parabola, Budget(seconds=0.5), remeasure=False).history) == 1
    assert len(quiet(Exhaustive(SPACE), parabola, Budget(seconds=3.0), remeasure=False, batch=10).history) == 3


def test_the_baseline_wins_where_nothing_is_better():
    result = quiet(Exhaustive(SPACE), lambda p: 1.0, Budget(trials=100), baseline={"kernel": "dense"})
    assert result.best == {"kernel": "dense"}
    assert result.gain == 1.0


def test_a_lucky_winner_gives_way_when_measured_again():
    first = dict.fromkeys(range(10), 10.0) | {3: 1.0, 4: 5.0}
    again = dict.fromkeys(range(10), 10.0) | {3: 50.0, 4: 5.5}
    seen = set()

    def noisy(params):
        x = params["x"]
        value = again[x] if x in seen else first[x]
        seen.add(x)
        return value

    result = quiet(Exhaustive(SPACE), noisy, Budget(trials=100), baseline={"x": 0})
    assert result.best == {"x": 4}
    assert result.score.value == 5.5


def test_the_baseline_wins_if_every_finalist_was_lucky():
    seen = set()

    def noisy(params):
        known = params["x"] in seen
        seen.add(params["x"])
        return 10.0 if known or params["x"] == 0 else 1.0

    result = quiet(Exhaustive(SPACE), noisy, Budget(trials=100), baseline={"x": 0})
    assert (result.best, result.score.value, result.gain) == ({"x": 0}, 10.0, 1.0)


def test_failures_are_told_kept_and_do_not_stop_the_search():
    told = []

    class Listening(Exhaustive):
        def tell(self, done):
            told.extend(done)
            super().tell(done)

    def breaks(params):
        if params["x"] % 2:
            raise RuntimeError(f"x={params['x']} does not compile")
        return float("nan") if params["x"] == 6 else parabola(params)

    store = Store("sqlite://")
    result = quiet(Listening(SPACE), breaks, Budget(trials=100), store=store, key=KEY)
    assert result.best["x"] in (4, 8)
    assert next(f.reason for _, f in result.failures) == "RuntimeError: x=1 does not compile"
    assert len(result.failures) == 6
    assert "MeasurementError" in {t.params["x"]: o for t, o in result.history}[6].reason
    assert len(told) == 10
    assert len(store.records(failed=True)) == 6


def test_nothing_but_failures_is_an_error_with_the_reasons():
    with pytest.raises(BudgetError, match=r"'tuning' ended without any result after 2 trials: ZeroDivisionError"):
        quiet(Exhaustive(SPACE), lambda p: 1 / 0, Budget(trials=2), name="tuning")
    with pytest.raises(BudgetError, match="nothing new to try"):
        quiet(_Nothing(), parabola, Budget(trials=2))


class _Nothing:
    def ask(self, n):
        return []

    def tell(self, done):
        pass


def test_every_outcome_is_recorded_with_its_parameters():
    store = Store("sqlite://")
    evaluate = lambda p: Score(value=parabola(p), metrics={"area_mm2": 2.0})  # noqa: E731
    quiet(Exhaustive(SPACE), evaluate, Budget(trials=100), store=store, key=KEY, name="demo", unit="J")
    best = store.best(layer="parabola")
    assert dict(best.decision) == {"x": 6}
    assert (best.value, best.unit, best.name, best.stats) == (1.0, "J", "demo", {"area_mm2": 2.0})
    assert len(store) == 11


@pytest.mark.parametrize("kind", [Random, Exhaustive, Evolution])
@pytest.mark.parametrize("cut", [1, 4, 7])
def test_a_resumed_run_equals_one_that_was_never_stopped(kind, cut):
    def fails_sometimes(params):
        if params["x"] == 2:
            raise ValueError("two")
        return parabola(params)

    def start(budget, store):
        return quiet(
            kind(SPACE, seed=5),
            fails_sometimes,
            Budget(trials=budget),
            store=store,
            key=KEY,
            baseline={"x": 0},
            remeasure=False,
        )

    store = Store("sqlite://")
    start(cut, store)
    resumed, whole = start(8, store), start(8, Store("sqlite://"))
    assert resumed.history == whole.history
    assert resumed.best == whole.best
    assert (resumed.reused, whole.reused) == (cut + 1, 0)
    assert len(store) == 9


def test_another_protocol_target_or_source_is_measured_anew():
    store = Store("sqlite://")
    quiet(Exhaustive(SPACE), parabola, Budget(trials=100), store=store, key=KEY, remeasure=False)
    for change in ({"protocol": "b"}, {"target": "b"}, {"source": "b"}, {"layer": "b"}):
        other = Key(**{"layer": "parabola", "decision": "any", "target": "here", "protocol": "exact", **change})
        result = quiet(Exhaustive(SPACE), parabola, Budget(trials=100), store=store, key=other, remeasure=False)
        assert result.reused == 0


@pytest.mark.parametrize("at", [1, 4, 11])
def test_ctrl_c_returns_the_best_so_far_and_loses_nothing(at):
    store, calls = Store("sqlite://"), []

    def interrupted(params):
        calls.append(params)
        if len(calls) == at:
            raise KeyboardInterrupt
        return parabola(params)

    result = quiet(Exhaustive(SPACE), interrupted, Budget(trials=100), store=store, key=KEY, baseline={"x": 0})
    assert (result.interrupted, result.stopped_by) == (True, "interrupt")
    assert len(result.history) == len(store) == at - 1
    assert result.best == {1: None, 4: {"x": 2}, 11: {"x": 6}}[at]
    assert quiet(Exhaustive(SPACE), parabola, Budget(trials=100), store=store, key=KEY).best == {"x": 6}


def test_evaluate_may_scribble_on_its_parameters():
    def scribbles(params):
        value = parabola(params)
        params.clear()
        return value

    assert quiet(Exhaustive(SPACE), scribbles, Budget(trials=100)).best == {"x": 6}


def test_a_store_that_fails_is_not_taken_for_a_failed_trial():
    class Broken(Store):
        def extend(self, records):
            raise RecordError("disk full")

    with pytest.raises(RecordError, match="disk full"):
        quiet(Exhaustive(SPACE), parabola, Budget(trials=3), store=Broken("sqlite://"), key=KEY)


def test_wrong_settings():
    with pytest.raises(ConfigError, match="needs a key"):
        quiet(Random(SPACE), parabola, Budget(trials=1), store=Store("sqlite://"))
    with pytest.raises(ConfigError, match="batch is 0"):
        quiet(Random(SPACE), parabola, Budget(trials=1), batch=0)


def test_progress_is_silent_without_a_terminal(capsys):
    run(Exhaustive(SPACE), parabola, Budget(trials=3), progress=True)
    assert capsys.readouterr() == ("", "")


def test_outcomes_are_scores_or_failures():
    result = quiet(Exhaustive(SPACE), parabola, Budget(trials=3))
    assert all(isinstance(o, Score | Failure) for _, o in result.history)


LONG_RUN = """
import signal, sys, time
from sparseflow.records import Key, Store
from sparseflow.search import Budget, Integer, Random, Space, run
# A shell that starts jobs in the background makes them deaf to Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
calls = 0
def slow(params):
    global calls
    calls += 1
    print(calls, flush=True)
    if len(sys.argv) == 2:
        time.sleep(0.02)
    return float(params["x"])
space = Space(parameters=(Integer(name="x", low=0, high=999),))
key = Key(layer="kill", decision="any", target="here", protocol="exact")
r = run(Random(space, seed=1), slow, Budget(trials=60), store=Store(sys.argv[1]), key=key, remeasure=False)
print("end", r.reused, r.best["x"], r.interrupted, len(r.history), flush=True)
"""


@pytest.mark.parametrize("signal_sent", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_a_real_signal_loses_nothing(tmp_path, signal_sent):
    command = [sys.executable, "-c", LONG_RUN, str(tmp_path / "r.sqlite")]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while first.stdout.readline().strip() != "5":
        pass
    first.send_signal(signal_sent)
    rest, _ = first.communicate(timeout=60)
    kept = len(Store(tmp_path / "r.sqlite"))
    assert 4 <= kept < 60
    if signal_sent == signal.SIGINT:
        assert f"True {kept}" in rest
    again = subprocess.run([*command, "fast"], capture_output=True, text=True, timeout=60, check=True).stdout
    space = Space(parameters=(Integer(name="x", low=0, high=999),))
    fresh = quiet(Random(space, seed=1), lambda p: float(p["x"]), Budget(trials=60))
    assert again.splitlines()[-1].split() == ["end", str(kept), str(fresh.best["x"]), "False", "60"]
    assert len(Store(tmp_path / "r.sqlite")) == 60


def many(calls):
    def evaluate(batch):
        calls.append([p["x"] for p in batch])
        return [parabola(p) for p in batch]

    return evaluate


def test_a_batch_is_evaluated_in_one_call():
    calls, singly = [], []
    result = quiet(
        Exhaustive(SPACE),
        lambda p: singly.append(p["x"]) or parabola(p),
        Budget(trials=10),
        batch=4,
        evaluate_many=many(calls),
        baseline={"x": 9},
    )
    assert calls == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]
    assert singly == [9, 9, 6]
    assert (result.best, result.score.value) == ({"x": 6}, 1.0)


def test_a_batch_knows_what_the_records_hold():
    store, calls = Store("sqlite://"), []
    for trials in (3, 6):
        quiet(
            Exhaustive(SPACE),
            parabola,
            Budget(trials=trials),
            store=store,
            key=KEY,
            batch=6,
            evaluate_many=many(calls),
            remeasure=False,
        )
    assert calls == [[0, 1, 2], [3, 4, 5]]


def test_a_batch_that_fails_is_evaluated_singly():
    def picky(batch):
        raise MemoryError("too many at once")

    def one(params):
        return parabola(params) if params["x"] != 2 else 1 / 0

    with pytest.warns(UserWarning, match="4 trials is evaluated one by one: MemoryError: too many at once"):
        result = quiet(Exhaustive(SPACE), one, Budget(trials=4), batch=4, evaluate_many=picky, remeasure=False)
    assert result.best == {"x": 3}
    assert [f.reason for _, f in result.failures] == ["ZeroDivisionError: division by zero"]


def test_scores_of_a_batch_that_are_no_numbers_are_failures():
    def half(batch):
        return [float("nan") if p["x"] % 2 else parabola(p) for p in batch]

    result = quiet(Exhaustive(SPACE), parabola, Budget(trials=10), batch=5, evaluate_many=half, remeasure=False)
    assert [t.params["x"] for t, _ in result.failures] == [1, 3, 5, 7, 9]


def test_a_batch_with_too_few_scores_is_refused():
    with pytest.raises(MeasurementError, match="returned 1 scores for 3 trials"):
        quiet(Exhaustive(SPACE), parabola, Budget(trials=3), batch=3, evaluate_many=lambda batch: [1.0])


def test_a_batch_that_was_paid_for_is_told_even_if_late(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr("sparseflow.search.loop.time.perf_counter", lambda: float(next(clock)))
    result = quiet(Exhaustive(SPACE), parabola, Budget(seconds=0.5), remeasure=False, batch=5, evaluate_many=many([]))
    assert len(result.history) == 5
