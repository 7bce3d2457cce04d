import json
from dataclasses import asdict

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.spike_train_config import SpikeTrainConfig

PHASES = [[16, 0.5, "analog"], [16, 0.25], [32, 0.25]]


def test_phases_follow_one_another():
    config = SpikeTrainConfig(phases=PHASES)
    assert [config.phase(done) for done in (0.0, 0.49, 0.5, 0.74, 0.75, 0.99, 1.0)] == [
        (0, 16, True),
        (0, 16, True),
        (1, 16, False),
        (1, 16, False),
        (2, 32, False),
        (2, 32, False),
        (2, 32, False),
    ]
    assert config.side == 32
    assert SpikeTrainConfig(phases=PHASES, image_size=32) != config
    assert SpikeTrainConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_without_phases_there_is_one():
    assert SpikeTrainConfig().phase(0.7) == (0, None, False)
    assert SpikeTrainConfig(image_size=48).phase(0.0) == (0, 48, False)
    assert SpikeTrainConfig(image_size=48).side == 48


@pytest.mark.parametrize(
    ("phases", "message"),
    [
        ([[16, 0.5]], "add up to 0.5; expected 1"),
        ([[16, 0.5], [32]], r"holds \[32\]"),
        ([16, 32], "holds 16"),
        ([[0, 1.0]], "holds"),
        ([[16.5, 1.0]], "holds"),
        ([[16, -1.0], [16, 2.0]], "holds"),
        ([["16", 1.0]], "holds"),
        ([[16, 1.0, "rates"]], "holds"),
        ([[16, 1.0, "analog"]], "end with them"),
        ([[16, True]], "holds"),
        ([[float("nan"), 1.0]], "holds"),
    ],
)
def test_bad_phases(phases, message):
    with pytest.raises(ConfigError, match=message):
        SpikeTrainConfig(phases=phases)


def test_two_sides_at_the_end_are_refused():
    with pytest.raises(ConfigError, match="image_size is 64, but the last of phases trains at 32"):
        SpikeTrainConfig(phases=PHASES, image_size=64)


@pytest.mark.parametrize(("changes", "message"), [({"start": "warm"}, "start"), ({"clip": -1.0}, "clip")])
def test_bad_settings(changes, message):
    with pytest.raises(ConfigError, match=message):
        SpikeTrainConfig(**changes)
