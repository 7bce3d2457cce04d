from dataclasses import replace

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.video import load_trained, save_trained, train_video
from sparseflow.recipes.video.evaluate import evaluate
from tests.video_runs import dense


def test_a_checkpoint_scores_as_its_training_said(tmp_path):
    record = train_video(dense(tmp_path), progress=False)
    (row,) = evaluate([record["file"]], device="cpu", batch_size=5)["runs"]
    assert {k: row[k] for k in record["test"]} == record["test"]
    assert (row["seed"], row["synthetic"], row["parameters"]) == (0, True, record["parameters"])
    found = load_trained(record["file"])
    other = tmp_path / "other.safetensors"
    save_trained(other, replace(found, classes=("x", *found.classes[1:])))
    with pytest.raises(ConfigError, match=r"other\.safetensors knows x"):
        evaluate([str(other)], device="cpu")


def test_nothing_to_score(tmp_path):
    with pytest.raises(ConfigError, match="no checkpoint"):
        evaluate([])
    with pytest.raises(DataError, match="sparseflow video train"):
        evaluate([str(tmp_path / "none.safetensors")])
