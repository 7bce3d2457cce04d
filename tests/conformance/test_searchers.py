"""What every searcher must do. A new searcher adds one class below and overrides `make`."""

import itertools

import pytest

from sparseflow.records import Key, Store
from sparseflow.search import (
    CMAES,
    GP,
    NSGA2,
    PPO,
    TPE,
    Budget,
    Categorical,
    Constraint,
    Coordinate,
    Evolution,
    Exhaustive,
    Failure,
    Integer,
    Leg,
    Ordered,
    PPOSettings,
    Random,
    Relay,
    Score,
    Searcher,
    Space,
    Trial,
    When,
    canonical,
    run,
)

EVENT = When(name="kernel", values=("event", "tile"))


def tiny(p):
    """Known problem with one optimum; brute force over the space gives the truth."""
    return 5.0 if p["kernel"] == "dense" else (p["block"] - 4) ** 2 + abs(p["unroll"] - 3) + (p["kernel"] == "tile") * 7


class SearcherSuite:
    """Base of the suite; not collected by itself."""

    space = Space(
        parameters=(
            Categorical(name="kernel", choices=("dense", "event", "tile")),
            Ordered(name="block", choices=(1, 2, 4, 8), when=EVENT),
            Integer(name="unroll", low=1, high=4, when=EVENT),
        ),
        constraints=(Constraint(holds=lambda p: p.get("block", 0) * p.get("unroll", 0) <= 16, reason="too large"),),
    )

    def make(self, space, seed):
        raise NotImplementedError

    @pytest.fixture
    def searcher(self):
        return self.make(self.space, 0)

    def drain(self, searcher, outcome, batch=1, most=1000):
        trials = []
        while len(trials) < most and (asked := searcher.ask(batch)):
            assert len(asked) <= batch
            searcher.tell([(t, outcome(t)) for t in asked])
            trials += asked
        return trials

    def test_has_the_protocol(self, searcher):
        assert isinstance(searcher, Searcher)

    @pytest.mark.parametrize("batch", [1, 3, 1000])
    def test_respects_the_space_and_ends_after_every_member_once(self, searcher, batch):
        trials = self.drain(searcher, lambda t: Score(value=tiny(t.params)), batch)
        assert all(self.space.reasons(t.params) == [] for t in trials)
        asked = [canonical(t.params) for t in trials]
        assert sorted(asked) == sorted(canonical(p) for p in self.space.enumerate())
        assert searcher.ask(1) == []

    def test_numbers_its_trials(self, searcher):
        trials = self.drain(searcher, lambda t: Score(value=0.0), 4)
        assert [t.id for t in trials] == list(range(len(trials)))

    def test_is_deterministic_by_seed(self):
        def sequence(seed):
            searcher = self.make(self.space, seed)
            return [t.params for t in self.drain(searcher, lambda t: Score(value=tiny(t.params)))]

        assert sequence(1) == sequence(1)

    def test_survives_failures_and_never_repeats_them(self, searcher):
        trials = self.drain(searcher, lambda t: Failure(reason="no"), 2)
        asked = [canonical(t.params) for t in trials]
        assert len(asked) == len(set(asked)) == len(list(self.space.enumerate()))

    def test_finds_the_optimum_between_failures(self, searcher):
        def outcome(t):
            return Failure(reason="odd") if t.params.get("unroll") == 2 else Score(value=tiny(t.params))

        trials = self.drain(searcher, outcome)
        scored = [(outcome(t).value, t.params) for t in trials if isinstance(outcome(t), Score)]
        assert min(scored, key=lambda pair: pair[0])[1] == {"kernel": "event", "block": 4, "unroll": 3}

    def test_never_asks_for_what_it_was_told(self, searcher):
        known = {"kernel": "dense"}
        searcher.tell([(Trial(id=-1, params=known), Score(value=5.0))])
        assert known not in [t.params for t in self.drain(searcher, lambda t: Score(value=0.0))]

    def test_takes_outcomes_late_and_out_of_order(self, searcher):
        first, second = searcher.ask(2), searcher.ask(2)
        searcher.tell([(t, Score(value=tiny(t.params))) for t in reversed(second)])
        searcher.tell([(t, Score(value=tiny(t.params))) for t in first])
        assert searcher.ask(1)

    def test_leaves_the_parameters_of_told_trials_alone(self, searcher):
        for trial in itertools.chain(*(searcher.ask(1) for _ in range(3))):
            before = dict(trial.params)
            searcher.tell([(trial, Score(value=1.0))])
            assert dict(trial.params) == before

    def test_the_run_loop_finds_what_brute_force_finds(self, searcher):
        truth = min(self.space.enumerate(), key=tiny)
        result = run(searcher, tiny, Budget(trials=1000), baseline={"kernel": "dense"}, progress=False)
        assert result.best == truth
        assert result.score.value == tiny(truth)
        assert result.stopped_by == "exhausted"

    @pytest.mark.parametrize("batch", [1, 4])
    def test_a_killed_run_goes_on_as_if_never_stopped(self, batch):
        def go(store, trials):
            key = Key(layer="a toy", decision="any", target="cpu", protocol="formula")
            budget = Budget(trials=trials)
            searcher = self.make(self.space, 3)
            return run(searcher, tiny, budget, store=store, key=key, batch=batch, remeasure=False, progress=False)

        whole, store = go(Store("sqlite://"), 20), Store("sqlite://")
        go(store, 8)
        resumed = go(store, 20)
        assert resumed.reused == 8
        assert [(t.params, o) for t, o in resumed.history] == [(t.params, o) for t, o in whole.history]


class TestRandom(SearcherSuite):
    def make(self, space, seed):
        return Random(space, seed=seed)


class TestExhaustive(SearcherSuite):
    def make(self, space, seed):
        return Exhaustive(space, seed=seed)


class TestEvolution(SearcherSuite):
    def make(self, space, seed):
        return Evolution(space, seed=seed)


class TestSmallEvolution(SearcherSuite):
    def make(self, space, seed):
        return Evolution(space, seed=seed, population=2, tournament=1)


class TestCMAES(SearcherSuite):
    def make(self, space, seed):
        pytest.importorskip("cmaes")
        return CMAES(space, seed=seed)


class TestCMAESFromAStart(SearcherSuite):
    def make(self, space, seed):
        pytest.importorskip("cmaes")
        return CMAES(space, seed=seed, start={"kernel": "tile", "block": 1, "unroll": 2}, population=4)


class TestTPE(SearcherSuite):
    def make(self, space, seed):
        pytest.importorskip("optuna")
        return TPE(space, seed=seed, startup=4)


class TestNSGA2(SearcherSuite):
    def make(self, space, seed):
        pytest.importorskip("optuna")
        return NSGA2(space, seed=seed, population=4)


class TestGP(SearcherSuite):
    def make(self, space, seed):
        pytest.importorskip("optuna")
        return GP(space, seed=seed, startup=24)


class TestCoordinate(SearcherSuite):
    def make(self, space, seed):
        return Coordinate(space, seed=seed)


class TestCoordinateFromAStart(SearcherSuite):
    def make(self, space, seed):
        return Coordinate(space, seed=seed, start={"kernel": "tile", "block": 1, "unroll": 2}, reach=0.5, kick=1)


class TestPPO(SearcherSuite):
    def make(self, space, seed):
        return PPO(space, seed=seed, settings=PPOSettings(episodes=4))


class TestOriginalPPO(SearcherSuite):
    def make(self, space, seed):
        return PPO(space, seed=seed, settings=PPOSettings.original())


class TestRelay(SearcherSuite):
    def make(self, space, seed):
        legs = [
            Leg(make=lambda start: Evolution(space, seed=seed, population=4, tournament=2), trials=9),
            Leg(make=lambda start: Coordinate(space, seed=seed, start=start), trials=9),
            Leg(make=lambda start: Random(space, seed=seed)),
        ]
        return Relay(space, legs)
