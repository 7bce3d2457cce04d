import math
import statistics
import time

import pytest

from sparseflow.errors import ConfigError
from sparseflow.search import PPO, Failure, Integer, PPOSettings, Random, Score, Space
from tests.search_problems import WIDE, best_after, far_from, ordered_codes, smooth

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2"]
CODES = ordered_codes(LAYERS)
TARGET = {f"{n}.{c}": v for n in LAYERS for c, v in {"t1": 7, "t2": 21, "v1": 14, "v2": 28}.items()}


def teach(searcher, evaluate, trials):
    for _ in range(trials):
        searcher.tell([(t, Score(value=evaluate(t.params))) for t in searcher.ask(1)])


def test_the_policy_moves_to_the_optimum_of_a_bowl():
    searcher = PPO(WIDE, seed=0)
    teach(searcher, smooth, 400)
    assert smooth(searcher.mode()) < 20


def test_it_beats_random_at_the_same_budget():
    learned = statistics.median(best_after(PPO(CODES, seed=s), far_from(TARGET), 150)[0] for s in range(3))
    drawn = statistics.median(best_after(Random(CODES, seed=s), far_from(TARGET), 150)[0] for s in range(3))
    assert learned < drawn


def test_a_start_draws_the_first_policy_to_itself():
    searcher = PPO(CODES, seed=0, start=TARGET)
    trials = searcher.ask(40)
    assert trials[0].params == TARGET
    near = statistics.mean(far_from(TARGET)(t.params) for t in trials[1:])
    drawn = statistics.mean(far_from(TARGET)(t.params) for t in PPO(CODES, seed=0).ask(40))
    assert near * 2 < drawn


def test_trials_tell_how_likely_they_were():
    (trial,) = PPO(CODES, seed=0, settings=PPOSettings(lr=1e-30, entropy_coef=0.0)).ask(1)
    assert len(trial.info["log_probs"]) == 28
    assert trial.info["updates"] == 0
    assert all(-8 < lp < 0 for lp in trial.info["log_probs"])


def test_drawn_as_often_as_told():
    space = Space(parameters=tuple(Integer(name=n, low=0, high=2) for n in ("l.a", "l.b")))
    counts, likely = {}, {}
    searcher = PPO(space, seed=0)
    for _ in range(4000):
        episode, params = searcher._suggest()
        key = tuple(params.values())
        counts[key] = counts.get(key, 0) + 1
        likely[key] = math.exp(sum(episode.log_probs))
    assert len(counts) == 9
    assert sum(likely.values()) == pytest.approx(1.0)
    for key, share in likely.items():
        assert counts[key] / 4000 == pytest.approx(share, abs=0.03)


def test_an_update_makes_good_choices_likelier():
    searcher = PPO(CODES, seed=0, settings=PPOSettings(episodes=8, lr=1e-3))
    drawn = [searcher._suggest()[0] for _ in range(8)]

    def likely(episode):
        spans = zip(episode.actions, episode.low, episode.high, strict=True)
        rows = [(searcher._logits[i, low : high + 1], at - low) for i, (at, low, high) in enumerate(spans)]
        return sum(row[at] - math.log(sum(map(math.exp, row))) for row, at in rows)

    before = [likely(e) for e in drawn]
    searcher._update(drawn, [1.0] + [0.0] * 7)
    gains = [likely(e) - b for e, b in zip(drawn, before, strict=True)]
    assert gains[0] == max(gains)
    assert gains[0] > 0


@pytest.mark.parametrize(("layers", "every"), [(4, 25), (7, 50), (9, 50), (13, 50), (16, 25), (27, 50)])
def test_the_original_updates_as_often_as_its_source(layers, every):
    space = ordered_codes([f"l{i}" for i in range(layers)])
    searcher = PPO(space, settings=PPOSettings.original())
    assert searcher._every == every
    assert searcher._policy.heads[0][2].out_features == 256


def test_the_original_learns_at_all():
    searcher = PPO(ordered_codes(["a"]), seed=0, settings=PPOSettings.original(lr=1e-2))
    target = {"a.t1": 7, "a.t2": 21, "a.v1": 14, "a.v2": 28}
    before = far_from(target)(searcher.mode())
    teach(searcher, far_from(target), 500)
    assert searcher._updates >= 10
    assert far_from(target)(searcher.mode()) < max(before, 6)


def test_states_of_the_layers_are_used():
    states = {n: [i / 6, 0.1, 0.2, 0.3] for i, n in enumerate(LAYERS)}
    one, other = PPO(CODES, states=states), PPO(CODES, states={n: [0.0] * 4 for n in LAYERS})
    assert (one._logits[0] != one._logits[4]).any()
    assert (other._logits[0] == other._logits[4]).all()


@pytest.mark.parametrize(
    ("states", "says"),
    [
        ({"conv1": [0.0]}, "states are given for"),
        ({n: [0.0] * (1 + (n == "fc2")) for n in LAYERS}, "same number of finite figures"),
        ({key: [math.nan] for key in LAYERS}, "same number of finite figures"),
        ({key: [] for key in LAYERS}, "same number of finite figures"),
    ],
)
def test_states_are_checked(states, says):
    with pytest.raises(ConfigError, match=says):
        PPO(CODES, states=states)


@pytest.mark.parametrize(
    "wrong", [{"lr": 0.0}, {"clip": -1.0}, {"epochs": 0}, {"episodes": 1}, {"gamma": 1.5}, {"spread": 0.0}]
)
def test_settings_are_checked(wrong):
    with pytest.raises(ConfigError, match="PPO"):
        PPOSettings(**wrong)


@pytest.mark.parametrize("settings", [PPOSettings(episodes=4), PPOSettings.original()], ids=["joint", "original"])
def test_failures_and_huge_scores_leave_numbers_finite(settings):
    searcher = PPO(CODES, seed=0, settings=settings)
    for i in range(120):
        outcomes = [Failure(reason="no"), Score(value=1e30), Score(value=-1e30), Score(value=0.0)]
        searcher.tell([(t, outcomes[i % 4]) for t in searcher.ask(1)])
    assert searcher._updates > 0
    assert all(math.isfinite(x) for x in searcher._logits.ravel())


@pytest.mark.parametrize("settings", [PPOSettings(episodes=50), PPOSettings.original()], ids=["joint", "original"])
def test_an_update_of_350_transitions_takes_milliseconds(settings):
    searcher = PPO(CODES, seed=0, settings=settings)
    drawn = [searcher._suggest()[0] for _ in range(50)]
    took = []
    for _ in range(3):
        began = time.perf_counter()
        searcher._update(drawn, [float(i) for i in range(50)])
        took.append(time.perf_counter() - began)
    assert min(took) < 0.3
