from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from sparseflow import data
from sparseflow.errors import ConfigError, DataError
from sparseflow.nn import models
from sparseflow.nn.models.checkpoint import power_above, round_half
from sparseflow.recipes.exact import on_rows
from sparseflow.recipes.spike_train import evaluate

ARGUMENTS = {"channels": 4, "image_size": 8}


@pytest.fixture
def saved(tmp_path):
    model = models.build("csnn", **ARGUMENTS)
    round_half(model)
    path = tmp_path / "sub" / "net.safetensors"
    models.save_checkpoint(path, model, name="csnn", arguments=ARGUMENTS, record={"test_accuracy": 0.5})
    return path, model


def test_what_is_saved_is_what_is_loaded(saved):
    path, model = saved
    loaded, record = models.load_checkpoint(str(path))
    assert record == {"test_accuracy": 0.5}
    assert not loaded.training
    for key, value in model.state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[key], value)
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_weights_that_float16_would_change_are_refused(tmp_path):
    model = models.build("csnn", **ARGUMENTS)
    with pytest.raises(ConfigError, match="round_half"):
        models.save_checkpoint(tmp_path / "a.safetensors", model, name="csnn", arguments=ARGUMENTS, record={})
    assert not list(tmp_path.iterdir())


def test_values_beyond_float16_are_refused():
    model = models.build("csnn", **ARGUMENTS)
    torch.nn.init.constant_(model.classifier.fc2.bias, 1e6)
    with pytest.raises(ConfigError, match=r"fc2\.bias"):
        round_half(model)


def test_missing_names_what_there_is():
    with pytest.raises(DataError, match="spiking_vgg9_cifar10"):
        models.load_checkpoint("spiking_vgg19")


@pytest.mark.parametrize("keep", [0, 5, 300])
def test_damaged(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match="damaged"):
        models.load_checkpoint(str(path))


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(save({"a": torch.zeros(2)}))
    with pytest.raises(DataError, match="not a checkpoint"):
        models.load_checkpoint(str(path))


def test_weights_of_another_network(saved, tmp_path):
    _, model = saved
    path = tmp_path / "other.safetensors"
    models.save_checkpoint(path, model, name="csnn", arguments={**ARGUMENTS, "channels": 8}, record={})
    with pytest.raises(DataError, match="does not fit"):
        models.load_checkpoint(str(path))


@pytest.mark.parametrize(
    ("name", "least", "images"), [("spiking_vgg9_cifar10", 0.91, 200), ("sew_resnet18_cifar10", 0.93, 100)]
)
def test_the_shipped_networks_are_alive_and_right(name, least, images):
    model, record = models.load_checkpoint(name)
    assert record["test_accuracy"] >= least
    assert record["test_images"] == 10_000
    assert all(0.02 <= density <= 0.40 for density in record["density"].values())
    accuracy, density = evaluate(model, data.cifar10_subset().take(images), batch_size=50)
    assert abs(accuracy - record["test_accuracy"]) < 0.06
    assert density.keys() == record["density"].keys()
    for key, value in density.items():
        assert value == pytest.approx(record["density"][key], rel=0.1)


def test_the_shipped_networks_are_known_by_name_and_small():
    assert models.checkpoints() == ("sew_resnet18_cifar10", "spiking_vgg9_cifar10")
    path = Path(models.__file__).parents[2] / "assets" / "checkpoints" / "sew_resnet18_cifar10.safetensors"
    assert path.stat().st_size <= 16 * 2**20
    tensors = load_file(path)
    assert {t.dtype for k, t in tensors.items() if t.ndim > 1} == {torch.int8}


@pytest.fixture
def compact(tmp_path):
    torch.manual_seed(0)
    model = models.build("csnn", **ARGUMENTS)
    round_half(model)
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim > 1:
                p.copy_(on_rows(p, 8))
        model.classifier.fc2.weight[0] = 0.0
        model.classifier.fc2.weight[1] = 127 * 2.0**-20
    path = tmp_path / "net.safetensors"
    models.save_checkpoint(path, model, name="csnn", arguments=ARGUMENTS, record={}, compact=True)
    return path, model


def test_bytes_come_back_as_they_were(compact):
    path, model = compact
    loaded, _ = models.load_checkpoint(str(path))
    for key, value in model.state_dict().items():
        assert loaded.state_dict()[key].dtype == value.dtype
        assert torch.equal(loaded.state_dict()[key], value)
    weights = sum(p.numel() for p in model.parameters() if p.ndim > 1)
    assert sum(t.nbytes for t in load_file(path).values() if t.dtype == torch.int8) < 1.1 * weights


def test_weights_that_bytes_would_change_are_refused(tmp_path):
    model = models.build("csnn", **ARGUMENTS)
    round_half(model)
    with pytest.raises(ConfigError, match="8-bit grids"):
        models.save_checkpoint(
            tmp_path / "a.safetensors", model, name="csnn", arguments=ARGUMENTS, record={}, compact=True
        )


KEY = "features.conv2.weight"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.pop(f"{KEY}.exponent"), "no fitting exponents"),
        (lambda t: t.update({f"{KEY}.exponent": t[f"{KEY}.exponent"][:-1]}), "no fitting exponents"),
        (lambda t: t.update({f"{KEY}.exponent": t[f"{KEY}.exponent"].short()}), "no fitting exponents"),
        (lambda t: t.update({KEY: t[KEY].half()}), "no weight in bytes"),
        (lambda t: t.pop(KEY), "no weight in bytes"),
    ],
)
def test_bytes_without_their_grids_are_damage(compact, spoil, message):
    path, _ = compact
    with safe_open(path, framework="pt") as f:
        metadata = f.metadata()
    tensors = load_file(path)
    spoil(tensors)
    path.write_bytes(save(tensors, metadata))
    with pytest.raises(DataError, match=message):
        models.load_checkpoint(str(path))


def test_powers_of_two_are_exact():
    x = torch.tensor([2.0**e for e in range(-60, 60)], dtype=torch.float64)
    assert torch.equal(power_above(x), x)
    assert torch.equal(power_above(x * 1.001), 2 * x)
    assert torch.equal(power_above(x * 0.999), x)


def test_a_file_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    model = models.build("csnn", channels=4)
    models.checkpoint.round_half(model)
    (tmp_path / "a.safetensors").mkdir()
    (tmp_path / "file").touch()
    for path in (tmp_path / "a.safetensors", tmp_path / "file" / "b.safetensors"):
        with pytest.raises(DataError, match="cannot write checkpoint"):
            models.save_checkpoint(path, model, name="csnn", arguments={}, record={})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "file"]
