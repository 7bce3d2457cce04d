import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Categorical, Coordinate, Failure, Integer, LogFloat, Random, Score, Space, When
from tests.search_problems import WIDE, best_after, far_from, ordered_codes, smooth

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2"]
CODES = ordered_codes(LAYERS)
TARGET = {f"{n}.{c}": v for n in LAYERS for c, v in {"t1": 7, "t2": 21, "v1": 14, "v2": 28}.items()}


@pytest.mark.parametrize(("batch", "trials"), [(1, 300), (8, 300), (64, 960)])
def test_it_reaches_the_bottom_of_a_bowl(batch, trials):
    assert best_after(Coordinate(WIDE, seed=0), smooth, trials, batch=batch)[0] == 0


def test_it_finds_the_codes_of_seven_layers():
    best, found = best_after(Coordinate(CODES, seed=0), far_from(TARGET), 600)
    assert best == 0
    assert found == TARGET


def test_it_refines_a_start_within_a_sweep():
    start = {n: v + 1 for n, v in TARGET.items()}
    assert best_after(Coordinate(CODES, seed=0, start=start), far_from(TARGET), 150)[0] < 0.5
    assert Coordinate(CODES, start=start).ask(1)[0].params == start


def test_single_steps_follow_once_long_ones_fail():
    searcher = Coordinate(WIDE, seed=0, start={"a": 4, "b": 17, "c": 29, "d": 8})
    tried = []
    for _ in range(40):
        (trial,) = searcher.ask(1)
        tried.append(trial.params)
        searcher.tell([(trial, Score(value=smooth(trial.params)))])
    assert {"a": 3, "b": 17, "c": 29, "d": 8} in tried
    assert {"a": 8, "b": 17, "c": 29, "d": 8} in tried[:9]


def test_it_leaves_a_local_optimum():
    space = Space(parameters=tuple(Integer(name=n, low=0, high=40) for n in "ab"))

    def trap(p):
        wide = abs(p["a"] - 8) + abs(p["b"] - 8)
        deep = 3 * (abs(p["a"] - 30) + abs(p["b"] - 30)) - 40
        return min(wide, deep)

    assert best_after(Coordinate(space, seed=0, start={"a": 8, "b": 8}, reach=0.3), trap, 600)[0] == -40


def test_moves_of_one_batch_add_up():
    searcher = Coordinate(WIDE, seed=0, start={"a": 7, "b": 21, "c": 25, "d": 12})
    best_after(searcher, smooth, 1)
    best, _ = best_after(searcher, smooth, 8, batch=8)
    assert best == 48
    assert best_after(searcher, smooth, 4)[0] <= 32


def test_choices_conditions_and_continuous_values():
    event = When(name="kernel", values=("event",))
    space = Space(
        parameters=(
            Categorical(name="kernel", choices=("dense", "event", "tile")),
            Integer(name="block", low=1, high=64, when=event),
            LogFloat(name="rate", low=1e-3, high=1e3),
        )
    )

    def value(p):
        return (10 if p["kernel"] != "event" else abs(p["block"] - 40) / 10) + abs(p["rate"] - 5) / 5

    best, found = best_after(Coordinate(space, seed=0, start={"kernel": "dense", "rate": 1.0}), value, 200)
    assert (found["kernel"], found["block"]) == ("event", 40)
    assert best < 0.1


def test_a_start_that_fails_is_left():
    searcher = Coordinate(WIDE, seed=0, start={"a": 3, "b": 17, "c": 29, "d": 9})
    (first,) = searcher.ask(1)
    searcher.tell([(first, Failure(reason="too hot"))])
    assert best_after(searcher, smooth, 100)[0] == 0


def test_it_beats_random_on_the_codes():
    walked = best_after(Coordinate(CODES, seed=1), far_from(TARGET), 200)[0]
    drawn = best_after(Random(CODES, seed=1), far_from(TARGET), 200)[0]
    assert walked * 2 < drawn


@pytest.mark.parametrize("wrong", [{"reach": 0.0}, {"reach": 1.5}, {"kick": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError, match="0 < reach <= 1 and kick >= 1"):
        Coordinate(WIDE, **wrong)
