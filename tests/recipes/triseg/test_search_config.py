"""Settings of a search are checked, and what decides its scores is told from where it runs."""

import dataclasses
import json
from typing import Any

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.triseg.search_config import SearchConfig


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"method": "guess"}, "method is 'guess'"),
        ({"episodes": 0}, "episodes is 0"),
        ({"eval_every": 0}, "eval_every is 0"),
        ({"tmax_reach": -1}, "tmax_reach is -1"),
        ({"tmax_shares": (90, 0)}, r"tmax_shares is \(90, 0\)"),
        ({"masks": "wide"}, "masks is 'wide'; expected one of relative, seed"),
        ({"overflow": "wrap"}, "overflow is 'wrap'"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"max_acc_drop": float("nan")}, "max_acc_drop is nan"),
        ({"result_file": "a/b.json"}, "without folder"),
        ({"result_file": "result"}, "without folder"),
    ],
    ids=str,
)
def test_wrong_settings_are_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        SearchConfig(**given)


def test_masks_follow_the_method_unless_named() -> None:
    assert SearchConfig().masks_name == "relative"
    assert SearchConfig(method="ppo-original").masks_name == "seed"
    assert SearchConfig(method="ppo-original", masks="relative").masks_name == "relative"


def test_the_problem_is_plain_and_leaves_places_out() -> None:
    config = SearchConfig(seed=3)
    other = dataclasses.replace(config, out="elsewhere", data="there", device="cpu", result_file="b.json")
    assert config.problem() == other.problem()
    assert config.problem() != SearchConfig(seed=4).problem()
    assert json.loads(json.dumps(config.to_dict()))["episodes"] == 600
