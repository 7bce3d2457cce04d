import json

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast import load_forecaster, train_forecaster
from sparseflow.recipes.forecast.dataset import open_task
from sparseflow.recipes.forecast.score import score
from tests.forecast_runs import small_config


def told(record):
    return [{k: v for k, v in line.items() if k != "seconds"} for line in record["history"]]


@pytest.mark.parametrize("more", [{}, {"variant": "seed"}, {"targets": ("c",), "precision": "bfloat16"}])
def test_a_network_is_trained_scored_and_written(tmp_path, more):
    config = small_config(tmp_path, **more)
    record = train_forecaster(config, progress=False)
    assert json.loads((config.folder / "record.json").read_text()) == json.loads(json.dumps(record))
    found = load_forecaster(record["file"])
    task = open_task(config)
    if "precision" not in more:
        assert score(found.model, task.part("test"), targets=task.targets).to_dict() == record["test"]
    assert record["test"]["windows"] == len(task.part("test"))
    assert record["val"]["mae"] == min(line["val"] for line in record["history"])
    assert record["history"][-1]["loss"] < record["history"][0]["loss"]
    assert found.targets == task.targets
    assert (record["epochs"], record["seed"], record["task"]) == (3, 2021, "waves_4")


def test_seeds_are_reproducible_and_differ(tmp_path):
    first, second, other = (
        told(train_forecaster(small_config(tmp_path, epochs=1, seed=seed, out=str(tmp_path / str(i))), progress=False))
        for i, seed in enumerate((1, 1, 2))
    )
    assert first == second != other


def test_the_random_numbers_of_the_caller_are_left_alone(tmp_path):
    torch.manual_seed(4)
    want = torch.rand(3)
    torch.manual_seed(4)
    train_forecaster(small_config(tmp_path, epochs=1), progress=False)
    assert torch.equal(torch.rand(3), want)


def test_bad_settings_of_the_network_are_named(tmp_path):
    with pytest.raises(ConfigError, match="patch_len"):
        train_forecaster(small_config(tmp_path, model_args={"patch_len": 99}), progress=False)
