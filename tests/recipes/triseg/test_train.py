import json
from dataclasses import replace

import pytest
import torch

from sparseflow.data import Sealed, Splits
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models import load_checkpoint
from sparseflow.recipes.triseg import train as module
from sparseflow.recipes.triseg.config import TrainConfig
from sparseflow.recipes.triseg.fit import accuracy
from sparseflow.recipes.triseg.train import float_file, read_float, splits_of, teacher_guide, train_float


def config(tmp_path, **more):
    settings = {"model": "lenet5", "out": str(tmp_path), "epochs": 2, "batch_size": 64, "train_limit": 128, "val": 50}
    return TrainConfig(**(settings | {"device": "cpu", "calib": 32} | more))


def test_the_file_holds_what_the_record_says(tmp_path):
    c = config(tmp_path)
    record = train_float(c, progress=False)
    path = tmp_path / "lenet5_float_unfused.safetensors"
    assert record["file"] == str(path) == str(float_file(c))
    net, stored = load_checkpoint(str(path))
    val = splits_of(c).val
    assert (len(val), record["val_images"]) == (50, 50)
    assert accuracy(net, val, torch.device("cpu")) == record["val_accuracy"] == stored["val_accuracy"]
    assert stored["config"]["epochs"] == 2
    assert len(record["history"]) == 2
    json.dumps(record)


def test_the_seed_decides_and_a_finished_run_is_not_repeated(tmp_path):
    one = train_float(config(tmp_path / "a"), progress=False)
    same = train_float(config(tmp_path / "b"), progress=False)
    other = train_float(config(tmp_path / "c", seed=1), progress=False)
    again = train_float(config(tmp_path / "a"), progress=False)
    losses = [[line["loss"] for line in r["history"]] for r in (one, same, other, again)]
    assert losses[0] == losses[1] == losses[3]
    assert losses[0] != losses[2]


def test_test_images_are_never_opened(tmp_path, monkeypatch):
    real = module.open_splits

    def refuses():
        raise AssertionError("test images were read")

    def sealed(*args, **kwargs):
        return replace(real(*args, **kwargs), test=Sealed(refuses))

    monkeypatch.setattr(module, "open_splits", sealed)
    assert isinstance(splits_of(config(tmp_path)), Splits)
    train_float(config(tmp_path, epochs=1), progress=False)


def test_a_network_of_the_user_is_trained_by_its_function(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from torch import nn\n"
        "def tiny(width=4):\n"
        "    return nn.Sequential(nn.Conv2d(3, width, 5, 4), nn.ReLU(), nn.Flatten(), nn.Linear(49 * width, 10))\n"
    )
    c = config(tmp_path, model=f"{mine}:tiny", model_args={"width": 2}, epochs=1)
    record = train_float(c, progress=False)
    assert record["file"].endswith("tiny_float_unfused.safetensors")
    net, arguments = read_float(float_file(c), c.model)
    assert arguments == {"width": 2}
    assert net[0].out_channels == 2


def test_missing_and_foreign_files_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"lenet5_float_unfused\.safetensors.*train-float --model lenet5"):
        read_float(tmp_path / "lenet5_float_unfused.safetensors", "lenet5")
    train_float(config(tmp_path, epochs=1), progress=False)
    with pytest.raises(DataError, match="holds network 'lenet5', not 'alexnet'"):
        read_float(tmp_path / "lenet5_float_unfused.safetensors", "alexnet")
    with pytest.raises(ConfigError, match="no network 'lenet6'"):
        train_float(config(tmp_path, model="lenet6"), progress=False)
    with pytest.raises(DataError, match="no folder"):
        train_float(config(tmp_path, data=str(tmp_path / "gone")), progress=False)
    with pytest.raises(DataError, match="lenet5_qat_preconvert"):
        teacher_guide("lenet5", config(tmp_path), torch.device("cpu"))
