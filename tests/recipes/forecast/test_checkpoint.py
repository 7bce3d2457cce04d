from dataclasses import replace

import pytest
import torch

from sparseflow.data import Scaler
from sparseflow.errors import DataError
from sparseflow.nn.models.cmamba import build_model, convert_weights, load_model, save_weights
from sparseflow.recipes.forecast import Forecaster, load_forecaster, save_forecaster, shipped
from tests.forecast_runs import small_config


@pytest.fixture
def made(tmp_path):
    config = small_config(tmp_path)
    torch.manual_seed(0)
    forecaster = Forecaster(
        model=build_model(config.network(3)).eval(), columns=("a", "b", "c"), targets=(2, 0),
        scaler=Scaler(mean=(1.0, 2.0, 0.1), std=(0.3, 0.2, 7.0)), config=config, record={"seed": 1},
    )  # fmt: skip
    return forecaster, save_forecaster(tmp_path / "f.safetensors", forecaster)


def test_all_comes_back(made):
    forecaster, path = made
    found = load_forecaster(path)
    for name in ("columns", "targets", "scaler", "config", "record"):
        assert getattr(found, name) == getattr(forecaster, name)
    assert found.model.args == forecaster.model.args
    x = torch.randn(2, 3, 12)
    assert torch.equal(found.model(x), forecaster.model(x))
    assert not found.model.training
    assert save_forecaster(path.with_name("g.safetensors"), found).read_bytes() == path.read_bytes()


def test_other_formats_and_windows_without_scaler_come_back(made, tmp_path):
    forecaster, path = made
    convert_weights(path, tmp_path / "f.npz")
    assert load_forecaster(tmp_path / "f.npz").scaler == forecaster.scaler
    save_forecaster(tmp_path / "n.pt", replace(forecaster, scaler=None))
    assert load_forecaster(tmp_path / "n.pt").scaler is None


def drop(body, name):
    del body[name]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda b: drop(b, "scaler"), "damaged: 'scaler'"),
        (lambda b: b.update(scaler=[[1.0], [0.0]]), "damaged: a scaler"),
        (lambda b: b.update(scaler=[[1.0], [1.0]]), "do not fit the 3 variates"),
        (lambda b: b.update(columns=["a"]), "do not fit the 3 variates"),
        (lambda b: b.update(targets=[3]), "do not fit the 3 variates"),
        (lambda b: b.update(config={"width": 3}), "width"),
        (lambda b: b.update(config={"lr": -1.0}), "lr"),
        (lambda b: b.update(record=3), "damaged"),
    ],
)
def test_damage_beside_the_weights_is_named(made, edit, said):
    _, path = made
    model, record = load_model(path)
    edit(record["forecaster"])
    save_weights(path, model, record=record)
    with pytest.raises(DataError, match=said):
        load_forecaster(path)


def test_weights_that_do_not_fit_are_named(made):
    forecaster, path = made
    with torch.no_grad():
        forecaster.model.head.linear.bias[1] = float("nan")
    save_forecaster(path, forecaster)
    with pytest.raises(DataError, match=r"head\.linear\.bias"):
        load_forecaster(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_file_is_named(made, keep):
    _, path = made
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"f\.safetensors"):
        load_forecaster(path)


def test_a_missing_file_or_a_bare_network_says_what_makes_a_forecaster(made, tmp_path):
    forecaster, _ = made
    save_weights(tmp_path / "bare.safetensors", forecaster.model)
    for name in ("none.safetensors", "bare.safetensors"):
        with pytest.raises(DataError, match="sparseflow forecast train"):
            load_forecaster(tmp_path / name)


def test_a_forecaster_that_ships_is_known_by_name(made, tmp_path, monkeypatch):
    _, path = made
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "tiny.safetensors").write_bytes(path.read_bytes())
    monkeypatch.setattr("sparseflow.recipes.forecast.checkpoint._assets", lambda: tmp_path / "assets")
    assert shipped() == ("tiny",)
    assert load_forecaster("tiny").columns == load_forecaster(path).columns
    with pytest.raises(DataError, match="no forecaster tinny; tiny ships; make one with"):
        load_forecaster("tinny")
