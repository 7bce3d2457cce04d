import logging
import random
import statistics

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import GP, NSGA2, TPE, Failure, LogFloat, Random, Score, Space, Trial
from tests.search_problems import WIDE, best_after, ordered_codes, smooth

optuna = pytest.importorskip("optuna")

CODES = ordered_codes(["conv1", "fc1"])


def test_tpe_beats_random_on_a_smooth_problem():
    modelled = statistics.median(best_after(TPE(WIDE, seed=s), smooth, 100)[0] for s in range(3))
    drawn = statistics.median(best_after(Random(WIDE, seed=s), smooth, 100)[0] for s in range(3))
    assert modelled < drawn


def test_a_gaussian_process_needs_few_trials():
    assert best_after(GP(WIDE, seed=0), smooth, 18)[0] < 60


def test_a_population_improves():
    bred = statistics.median(best_after(NSGA2(WIDE, seed=s, population=10), smooth, 200)[0] for s in range(3))
    drawn = statistics.median(best_after(Random(WIDE, seed=s), smooth, 200)[0] for s in range(3))
    assert bred < drawn
    with pytest.raises(ConfigError, match="population is 1"):
        NSGA2(WIDE, population=1)


@pytest.mark.parametrize(
    ("kind", "settings"), [(TPE, {"startup": 5}), (GP, {"startup": 5}), (NSGA2, {"population": 3})]
)
def test_codes_stay_ordered(kind, settings):
    searcher = kind(CODES, seed=0, **settings)
    for _ in range(8):
        (trial,) = searcher.ask(1)
        assert CODES.reasons(trial.params) == []
        searcher.tell([(trial, Score(value=float(trial.params["fc1.t1"])))])


def test_what_it_did_not_ask_for_teaches_it_too():
    searcher = TPE(WIDE, seed=0, startup=3)
    told = [{"a": 3, "b": 17, "c": 29, "d": 8}, {"a": 0, "b": 0, "c": 0, "d": 0}]
    searcher.tell([(Trial(id=-1, params=p), Score(value=float(smooth(p)))) for p in told])
    assert searcher._study.best_value == 0.0
    assert searcher._study.best_params == told[0]


def test_what_it_is_told_of_codes_is_what_it_would_draw():
    searcher = TPE(CODES, seed=0)
    rng = random.Random(0)
    for _ in range(50):
        params = CODES.sample(rng)
        searcher.tell([(Trial(id=-1, params=params), Score(value=1.0))])
        searcher._study.enqueue_trial(searcher._study.trials[-1].params)
        assert searcher._suggest()[1] == params


def test_failures_are_known_as_such():
    searcher = TPE(WIDE, seed=0)
    searcher.tell([(t, Failure(reason="no")) for t in searcher.ask(3)])
    assert [t.state for t in searcher._study.trials] == [optuna.trial.TrialState.FAIL] * 3


def test_a_continuous_space_is_searched_in_the_logarithm():
    space = Space(parameters=(LogFloat(name="rate", low=1e-6, high=1.0),))
    assert best_after(TPE(space, seed=0), lambda p: abs(p["rate"] - 1e-4), 60)[0] < 1e-4


def test_optuna_keeps_its_voice(caplog):
    before = optuna.logging.get_verbosity()
    with caplog.at_level(logging.INFO, logger="optuna"):
        TPE(WIDE)
    assert optuna.logging.get_verbosity() == before
    assert caplog.records == []


@pytest.mark.parametrize("kind", [TPE, GP])
def test_settings_are_checked(kind):
    with pytest.raises(ConfigError, match="startup is -1"):
        kind(WIDE, startup=-1)
