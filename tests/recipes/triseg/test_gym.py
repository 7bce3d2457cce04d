"""The environment under its name, on a trained network."""

import builtins

import pytest
import torch

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.recipes.triseg import gym as room
from sparseflow.recipes.triseg.problem import pose
from sparseflow.recipes.triseg.search_config import SearchConfig
from tests.triseg_teachers import save_teacher

gymnasium = pytest.importorskip("gymnasium")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    out = tmp_path_factory.mktemp("outputs")
    save_teacher(out, steps=5)
    return {"model": "lenet5", "out": str(out), "batch_size": 8, "device": "cpu"}


def test_an_episode_is_worth_what_the_search_says(settings):
    name = room.register()
    assert room.register() == name
    made = gymnasium.make(name, **settings)
    made.reset(seed=0)
    problem = pose(SearchConfig(**settings))
    start = problem.space.params(problem.start)
    for parameter in problem.space.space.parameters:
        _, reward, over, _, info = made.step(start[parameter.name])
    assert over
    assert (info["codes"], info["clamped"]) == (problem.start.tolist(), 0)
    images = problem.splits.calib.take(8)
    assert reward == float(problem.evaluator(images).score(problem.start[None]).reward)
    assert made.unwrapped.action_masks().shape == (256,)


def test_an_unknown_setting_is_refused(settings):
    with pytest.raises(ConfigError, match="method is 'none'"):
        room.make_env(**settings, method="none")


def test_without_gymnasium_the_mend_is_said(settings, monkeypatch):
    true_import = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.partition(".")[0] == "gymnasium" or name.endswith("approximate.gym"):
            raise ImportError(name)
        return true_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    for call in (room.register, lambda: room.make_env(**settings)):
        with pytest.raises(UnsupportedError, match="sparseflow\\[gym\\]"):
            call()


def test_codes_do_not_depend_on_the_path(settings):
    env = room.make_env(**settings)
    env.reset()
    rewards = []
    for _ in range(2):
        env.reset()
        over = False
        while not over:
            _, reward, over, _, info = env.step(20)
        rewards.append((reward, info["codes"]))
    assert rewards[0] == rewards[1]
    assert torch.tensor(info["codes"]).shape == (len(env._codes.names), 5)
