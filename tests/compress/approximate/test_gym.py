"""The environment against the space and the scores that it stands on."""

import numpy as np
import pytest
import torch

from sparseflow.compress.approximate import SEED, CodeSpace, Scores
from sparseflow.errors import ConfigError

pytest.importorskip("gymnasium")

from gymnasium.utils.env_checker import check_env

from sparseflow.compress.approximate.gym import CodesEnv

STATES = {"conv1": (0.0, 0.1, 0.2, 0.3), "fc1": (1.0, 0.4, 1.5, 0.6)}


class Judge:
    """Likes small codes, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, codes):
        self.asked.append(codes)
        kd = codes.double().sum((1, 2))
        return Scores(kd=kd, at=kd * 0, reward=-kd, agreement=kd * 0 + 0.5, accuracy=kd * 0)


def env(judge=None, **changed):
    space = CodeSpace(names=("conv1", "fc1"), tmax=(35, 20), **changed)
    return CodesEnv(space, STATES, judge or Judge())


@pytest.mark.parametrize("changed", [{}, {"reach": 3}, {"masks": SEED}])
def test_gymnasiums_own_checker_is_content(changed):
    check_env(env(**changed), skip_render_check=True)


def played(made, action):
    """Return what an episode gave, each action chosen by a function of the mask."""
    seen, info = made.reset()
    steps, over = [], False
    while not over:
        steps.append((seen, made.action_masks(), action(info["action_mask"])))
        seen, reward, over, cut, info = made.step(steps[-1][2])
        assert not cut
        assert over or reward == 0
    return steps, reward, info


@pytest.mark.parametrize("changed", [{}, {"reach": 3}, {"masks": SEED}])
def test_legal_actions_are_members_of_the_space(changed):
    judge = Judge()
    made = env(judge, **changed)
    draws = made.action_space
    draws.seed(3)
    for _ in range(50):
        steps, reward, info = played(made, lambda mask: draws.sample(mask))
        codes = torch.tensor(info["codes"])
        assert made._codes.space.reasons(made._codes.params(codes)) == []
        order = ["t1", "t2", "v1", "v2"] if not changed.get("reach") else ["tmax", "t1", "t2", "v1", "v2"]
        assert [s[2] for s in steps] == [
            codes[i, ("t1", "v1", "t2", "v2", "tmax").index(c)] for i in (0, 1) for c in order
        ]
        assert info["clamped"] == 0
        assert torch.equal(judge.asked[-1], codes[None])
        assert (reward, info["kd"], info["agreement"]) == (-float(codes.sum()), float(codes.sum()), 0.5)
    assert len({str(asked.tolist()) for asked in judge.asked}) > 40


def test_masks_are_the_ranges_of_the_space():
    made = env()
    given = {}
    made.reset()
    for parameter in made._codes.space.parameters:
        left = parameter.given(given)
        mask = made.action_masks()
        assert np.flatnonzero(mask).tolist() == list(range(left.low, left.high + 1))
        made.step(left.high)
        given[parameter.name] = left.high
    assert made.action_masks().all()


def test_an_illegal_action_becomes_the_nearest_and_is_counted():
    steps, _, info = played(env(), lambda mask: 255)
    assert len(steps) == info["clamped"] == 8
    highest = played(env(), lambda mask: int(np.flatnonzero(mask)[-1]))[2]
    assert (info["codes"], highest["clamped"]) == (highest["codes"], 0)


def test_an_observation_says_which_code_is_next_and_what_was_chosen():
    made = env()
    seen, _ = made.reset(seed=1)
    assert seen.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 35 / 255])
    seen = made.step(7)[0]
    assert seen.tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0, 0, 1, 0, 0, 7 / 255, 0, 0, 0, 35 / 255])
    for code in (21, 14, 28):
        seen = made.step(code)[0]
    assert seen.tolist() == pytest.approx([1.0, 0.4, 1.0, 0.6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 20 / 255])
    free = env(reach=3)
    assert free.reset()[0][4:].tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_refusals():
    with pytest.raises(ConfigError, match="expected 4 figures"):
        CodesEnv(CodeSpace(names=("conv2",), tmax=(35,)), STATES, Judge())
    made = env()
    made.reset()
    for action in (-1, 256):
        with pytest.raises(ConfigError, match=f"action is {action}"):
            made.step(action)
    played(made, lambda mask: 9)
    with pytest.raises(ConfigError, match="call reset"):
        made.step(9)
