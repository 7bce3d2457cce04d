import statistics

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import Evolution, Exhaustive, Integer, LogFloat, Random, Score, Space

WIDE = Space(parameters=tuple(Integer(name=n, low=0, high=31) for n in "abcd"))


def smooth(params):
    return sum((params[n] - t) ** 2 for n, t in zip("abcd", (3, 17, 29, 8), strict=True))


def best_after(searcher, trials):
    best = float("inf")
    for _ in range(trials):
        (trial,) = searcher.ask(1)
        value = smooth(trial.params)
        best = min(best, value)
        searcher.tell([(trial, Score(value=value))])
    return best


def test_evolution_beats_random_on_a_smooth_problem():
    evolved = statistics.median(best_after(Evolution(WIDE, seed=s), 400) for s in range(5))
    drawn = statistics.median(best_after(Random(WIDE, seed=s), 400) for s in range(5))
    assert evolved * 3 < drawn


def test_the_oldest_dies():
    searcher = Evolution(WIDE, population=3, tournament=1)
    trials = searcher.ask(5)
    searcher.tell([(t, Score(value=float(t.id))) for t in reversed(trials)])
    assert [value for value, _ in searcher._living] == [2.0, 3.0, 4.0]


def test_evolution_ignores_what_lies_outside_its_space():
    from sparseflow.search import Trial

    searcher = Evolution(WIDE, population=1, tournament=1)
    searcher.tell([(Trial(id=-1, params={"kernel": "dense"}), Score(value=-1e9))])
    assert len(searcher.ask(10)) == 10


@pytest.mark.parametrize(("population", "tournament"), [(0, 0), (4, 5), (4, 0)])
def test_settings_of_evolution_are_checked(population, tournament):
    with pytest.raises(ConfigError, match="1 <= tournament <= population"):
        Evolution(WIDE, population=population, tournament=tournament)


def test_exhaustive_refuses_a_continuous_space():
    with pytest.raises(ConfigError, match="finite space; use Random or Evolution"):
        Exhaustive(Space(parameters=(LogFloat(name="x", low=1.0, high=2.0),)))


@pytest.mark.parametrize("kind", [Random, Evolution])
def test_continuous_spaces_are_searched_without_end(kind):
    searcher = kind(Space(parameters=(LogFloat(name="x", low=1.0, high=2.0),)))
    for _ in range(20):
        trials = searcher.ask(10)
        assert len(trials) == 10
        searcher.tell([(t, Score(value=t.params["x"])) for t in trials])


def test_asking_for_nothing_is_refused():
    with pytest.raises(ConfigError, match="at least one"):
        Random(WIDE).ask(0)
