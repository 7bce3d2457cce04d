import json
import os
import signal
import subprocess
import sys
import time

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


RUN = """
import json, sys
from sparseflow.recipes.forecast import ForecastConfig, train_forecaster
train_forecaster(ForecastConfig.from_dict(json.loads(sys.argv[1])), progress=False)
"""


def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(tmp_path):
    whole = train_forecaster(
        small_config(tmp_path, epochs=12, patience=12, out=str(tmp_path / "whole")), progress=False
    )
    config = small_config(tmp_path, epochs=12, patience=12, out=str(tmp_path / "cut"))
    process = subprocess.Popen([sys.executable, "-c", RUN, json.dumps(config.to_dict(all=True))])
    metrics = config.folder / "metrics.jsonl"
    for _ in range(3000):
        if metrics.exists() and len(metrics.read_text().splitlines()) >= 2:
            break
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (config.folder / "record.json").exists()
    again = train_forecaster(config, progress=False)
    assert told(again) == told(whole)
    assert again["test"] == whole["test"]
    a, b = (load_forecaster(r["file"]).model.state_dict() for r in (whole, again))
    assert all(torch.equal(a[k], b[k]) for k in a)
