import pytest
import torch

from sparseflow.compress.quantize import to_integer
from sparseflow.errors import DataError
from sparseflow.recipes.triseg.checkpoint import read_qat
from sparseflow.recipes.triseg.config import QatConfig, TrainConfig
from sparseflow.recipes.triseg.fit import accuracy
from sparseflow.recipes.triseg.qat import train_qat
from sparseflow.recipes.triseg.teacher import load_teacher
from sparseflow.recipes.triseg.train import splits_of, train_float

COMMON = {
    "batch_size": 64,
    "train_limit": 256,
    "val": 100,
    "calib": 64,
    "device": "cpu",
    "degrees": 0.0,
    "erasing": 0.0,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    settings = COMMON | {"model": "alexnet", "out": str(out), "model_args": {"width": 0.125, "dropout": 0.0}}
    train_float(TrainConfig(**settings, epochs=6, lr=0.05, schedule="cosine"), progress=False)
    config = QatConfig(**{k: v for k, v in settings.items() if k != "model_args"}, epochs=3, warmup_float_epochs=1.0)
    return config, train_qat(config, progress=False)


def test_the_integer_network_of_the_file_has_the_accuracy_of_the_record(trained):
    config, record = trained
    teacher = load_teacher("alexnet", config.out)
    val = splits_of(config).val
    assert accuracy(teacher.net, val, torch.device("cpu")) == record["val_accuracy"]
    assert teacher.names == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc1", "fc2")
    assert read_qat(record["file"]).record["val_accuracy"] == record["val_accuracy"]
    # Eight bits lose little, even of a network that is hardly trained.
    assert abs(record["val_accuracy"] - record["float_val"]) < 0.12


def test_epochs_before_the_ranges_are_frozen_are_not_kept(trained):
    _, record = trained
    assert record["history"][0]["kept"] is False
    assert record["history"][-1]["done"] == 1.0


def test_a_finished_run_gives_the_same_network_again(trained):
    config, record = trained
    before = to_integer(read_qat(record["file"]).graph)
    again = train_qat(config, progress=False)
    after = to_integer(read_qat(again["file"]).graph)
    x = torch.randn(4, 3, 32, 32)
    assert torch.equal(before(x), after(x))


def test_a_missing_start_names_the_command(tmp_path):
    with pytest.raises(DataError, match=r"train-float --model vgg16"):
        train_qat(QatConfig(**COMMON, model="vgg16", out=str(tmp_path)), progress=False)
