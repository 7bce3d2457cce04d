"""Searchers in turn: where each begins, what it knows, and that nothing is tried twice."""

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Budget, Coordinate, Exhaustive, Integer, Leg, Random, Relay, Score, Space, canonical, run

SPACE = Space(parameters=(Integer(name="x", low=0, high=40), Integer(name="y", low=0, high=40)))


def bowl(params):
    return float((params["x"] - 31) ** 2 + (params["y"] - 7) ** 2)


def relay(first=20, seed=0, begun=None):
    def descend(start):
        if begun is not None:
            begun.append(start)
        return Coordinate(SPACE, seed=seed, start=start)

    return Relay(SPACE, [Leg(make=lambda start: Random(SPACE, seed=seed), trials=first), Leg(make=descend)])


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_second_begins_at_the_best_of_the_first(batch):
    begun = []
    found = run(relay(begun=begun), bowl, Budget(trials=150), batch=batch, remeasure=False, progress=False)
    assert len(begun) == 1
    first = [(o.value, dict(t.params)) for t, o in found.history[:20]]
    assert begun[0] == min(first, key=lambda pair: pair[0])[1]
    asked = [canonical(t.params) for t, _ in found.history]
    assert len(set(asked)) == len(asked) == 150
    assert found.score.value <= 1
    assert [t.id for t, _ in found.history] == list(range(150))


def test_a_leg_with_nothing_left_gives_way():
    small = Space(parameters=(Integer(name="x", low=0, high=3),))
    legs = [Leg(make=lambda start: Exhaustive(small), trials=100), Leg(make=lambda start: Exhaustive(small))]
    found = run(Relay(small, legs), lambda p: float(p["x"]), Budget(trials=50), remeasure=False, progress=False)
    assert [t.params["x"] for t, _ in found.history] == [0, 1, 2, 3]
    assert found.stopped_by == "exhausted"


def test_outcomes_from_outside_count():
    searcher, begun = relay(first=1, begun=(begun := [])), begun
    (trial,) = searcher.ask(5)
    assert searcher.ask(5) == []
    searcher.tell([(trial, Score(value=bowl(trial.params)))])
    best = type(trial)(id=-1, params={"x": 31, "y": 7})
    searcher.tell([(best, Score(value=0.0))])
    searcher.ask(1)
    assert begun == [{"x": 31, "y": 7}]


def test_refusals():
    with pytest.raises(ConfigError, match="each but the last"):
        Relay(SPACE, [Leg(make=lambda s: Random(SPACE)), Leg(make=lambda s: Random(SPACE))])
    with pytest.raises(ConfigError, match="needs legs"):
        Relay(SPACE, [])
    with pytest.raises(ConfigError, match="0 trials"):
        Leg(make=lambda s: Random(SPACE), trials=0)
