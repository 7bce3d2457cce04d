import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from sparseflow.data import Scaler
from sparseflow.errors import DataError
from sparseflow.nn.models.cmamba import build_model
from sparseflow.recipes.forecast import Forecaster, load_forecaster, save_forecaster
from tests.forecast_runs import small_config


@pytest.fixture
def made(tmp_path):
    config = small_config(tmp_path)
    args = config.network(3)
    torch.manual_seed(0)
    forecaster = Forecaster(
        model=build_model(args).eval(), args=args, columns=("a", "b", "c"), targets=(2, 0),
        scaler=Scaler(mean=(1.0, 2.0, 0.1), std=(0.3, 0.2, 7.0)), config=config, record={"seed": 1},
    )  # fmt: skip
    return forecaster, save_forecaster(tmp_path / "f.safetensors", forecaster)


def test_all_comes_back(made):
    forecaster, path = made
    found = load_forecaster(path)
    for name in ("args", "columns", "targets", "scaler", "config", "record"):
        assert getattr(found, name) == getattr(forecaster, name)
    x = torch.randn(2, 3, 12)
    assert torch.equal(found.model(x), forecaster.model(x))
    assert not found.model.training
    assert save_forecaster(path.with_name("g.safetensors"), found).read_bytes() == path.read_bytes()


def test_windows_without_scaler_come_back(made, tmp_path):
    forecaster, _ = made
    assert load_forecaster(save_forecaster(tmp_path / "n", replace(forecaster, scaler=None))).scaler is None


def change(path, edit):
    with safe_open(path, framework="pt") as f:
        meta = f.metadata()
    tensors = load_file(path)
    (name,) = meta
    header = json.loads(meta[name])
    edit(tensors, header)
    save_file(tensors, path, {header.pop("named", name): header.pop("text", None) or json.dumps(header)})


KEY = "head.linear.weight"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda t, m: t.pop(KEY), f"{KEY} is missing"),
        (lambda t, m: t.update(extra=torch.ones(2)), "extra is unexpected"),
        (lambda t, m: t.update({KEY: t[KEY][:2].clone()}), f"{KEY} is torch.float32"),
        (lambda t, m: t.update({KEY: t[KEY].half()}), f"{KEY} is torch.float16"),
        (lambda t, m: t[KEY].view(-1)[3:4].fill_(float("nan")), f"{KEY} holds"),
        (lambda t, m: m.update(named="another"), "no forecaster"),
        (lambda t, m: m.update(text="{"), "header .* damaged"),
        (lambda t, m: m.update(text="[]"), "header .* damaged"),
        (lambda t, m: m.pop("scaler"), "header .* damaged: 'scaler'"),
        (lambda t, m: m.update(args={"width": 3}), "width"),
        (lambda t, m: m.update(config={"width": 3}), "width"),
        (lambda t, m: m.update(scaler=[[1.0], [0.0]]), "scaler"),
    ],
)
def test_damage_is_named(made, edit, said):
    _, path = made
    change(path, edit)
    with pytest.raises(DataError, match=said):
        load_forecaster(path)


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_cut_file_is_named(made, keep):
    _, path = made
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"f\.safetensors"):
        load_forecaster(path)


def test_a_missing_file_says_what_makes_it(tmp_path):
    with pytest.raises(DataError, match="sparseflow forecast train"):
        load_forecaster(tmp_path / "none.safetensors")
