import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.nn.prune.config import PruneConfig


def test_defaults_are_the_documents():
    config = PruneConfig()
    assert config.time_window_levels == config.space_window_levels == (1, 2, 4)
    assert (config.time_weight, config.space_weight, config.region_weight) == (1, 0.5, 0.5)
    literal = PruneConfig(ast_loss="spec")
    assert (literal.lambda_token, literal.lambda_head, literal.lambda_ch, literal.lambda_block) == (0.1, 0.1, 0.1, 0.05)
    assert literal.lambda_binary == 0
    assert (config.entropy_tau, config.gate_temp, config.keep, config.num_regions) == (1.0, 0.1, 0.5, 4)


def test_json_round_trip():
    config = PruneConfig(keep_schedule={"4": 0.25, 1: 0.5}, keep_head=None, time_window_levels=[1, 2])
    assert config.schedule == {1: 0.5, 4: 0.25}
    assert config.keep_head == 1.0
    assert PruneConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"keep": 0}, "keep"),
        ({"keep": 1.5}, "keep"),
        ({"keep": True}, "keep"),
        ({"keep_head": 0.0}, "keep_head"),
        ({"prune_before": -1}, "prune_before"),
        ({"keep_schedule": {}}, "keep_schedule"),
        ({"keep_schedule": {1: 0.2, 3: 0.4}}, "cannot grow"),
        ({"keep_schedule": {"x": 0.2}}, "keep_schedule"),
        ({"score": "luck"}, "score"),
        ({"entropy_mode": "both"}, "entropy_mode"),
        ({"time_window_levels": []}, "time_window_levels"),
        ({"space_window_levels": [0]}, "space_window_levels"),
        ({"entropy_tau": 0}, "entropy_tau"),
        ({"gate_temp": -1}, "gate_temp"),
        ({"time_weight": float("nan")}, "time_weight"),
        ({"time_overlap": 1.0}, "time_overlap"),
        ({"gate_init": float("inf")}, "gate_init"),
        ({"learn_keep": 1}, "learn_keep"),
        ({"score": "random", "execution": "mask"}, "no map"),
        ({"score": "tome", "prune_before": 0}, "block before"),
        ({"rho": 0.5}, "rho"),
    ],
)
def test_what_is_wrong_is_named(given, word):
    with pytest.raises(ConfigError, match=word):
        PruneConfig.from_dict(given)
