import statistics

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import CMAES, Failure, Integer, LogFloat, Random, Score, Space
from tests.search_problems import WIDE, best_after, far_from, ordered_codes, smooth

pytest.importorskip("cmaes")

CODES = ordered_codes(["conv1", "conv2", "fc1"])
TARGET = {
    f"{layer}.{code}": v
    for layer in ("conv1", "conv2", "fc1")
    for code, v in zip(("t1", "t2", "v1", "v2"), (7, 21, 14, 28), strict=True)
}
NEAR = {name: v + (1 if name.endswith("v1") else -1) for name, v in TARGET.items()}


def test_it_beats_random_on_a_smooth_problem():
    adapted = statistics.median(best_after(CMAES(WIDE, seed=s), smooth, 200)[0] for s in range(5))
    drawn = statistics.median(best_after(Random(WIDE, seed=s), smooth, 200)[0] for s in range(5))
    assert adapted * 3 < drawn


def test_it_finds_ordered_codes():
    assert best_after(CMAES(CODES, seed=0), far_from(TARGET), 600)[0] < 0.5


def test_a_good_start_is_worth_many_trials():
    warm = statistics.median(best_after(CMAES(CODES, seed=s, start=NEAR), far_from(TARGET), 60)[0] for s in range(3))
    cold = statistics.median(best_after(CMAES(CODES, seed=s), far_from(TARGET), 60)[0] for s in range(3))
    assert warm < 1.0 < cold


def test_the_start_is_tried_first():
    assert CMAES(CODES, start=NEAR).ask(2)[0].params == NEAR


@pytest.mark.parametrize("batch", [4, 16, 40])
def test_populations_as_large_as_batches(batch):
    assert best_after(CMAES(WIDE, seed=0, population=batch), smooth, 400, batch)[0] < 30


def test_it_begins_anew_when_it_has_collapsed():
    searcher = CMAES(WIDE, seed=0, start={"a": 3, "b": 17, "c": 29, "d": 8}, sigma=0.01)
    best_after(searcher, lambda p: 1.0, 400)
    assert searcher._restarts > 0


def test_failures_alone_do_not_stop_it():
    searcher = CMAES(WIDE, seed=0)
    for _ in range(40):
        searcher.tell([(t, Failure(reason="no")) for t in searcher.ask(1)])
    assert searcher.ask(1)


def test_axes_without_a_choice_and_continuous_ones():
    fixed = Integer(name="fixed", low=4, high=4)
    space = Space(parameters=(fixed, LogFloat(name="rate", low=1e-4, high=1.0)))
    best, found = best_after(CMAES(space, seed=0), lambda p: abs(p["rate"] - 0.01), 100)
    assert found["fixed"] == 4
    assert best < 1e-3
    alone = CMAES(Space(parameters=(fixed,)))
    assert [t.params for t in alone.ask(3)] == [{"fixed": 4}]


def test_outcomes_are_ranked_never_added_up():
    huge = CMAES(WIDE, seed=0)
    for _ in range(100):
        huge.tell([(t, Score(value=smooth(t.params) * 1e300)) for t in huge.ask(1)])
    small = CMAES(WIDE, seed=0)
    for _ in range(100):
        small.tell([(t, Score(value=smooth(t.params))) for t in small.ask(1)])
    assert huge.ask(1)[0].params == small.ask(1)[0].params


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"sigma": float("nan")}, {"population": 3}])
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError, match="expected"):
        CMAES(WIDE, **wrong)
