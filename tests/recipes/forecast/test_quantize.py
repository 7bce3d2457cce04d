import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir.qspec import QSpec
from sparseflow.recipes.forecast import evaluate, load_forecaster, train_forecaster
from sparseflow.recipes.forecast.dataset import open_task
from sparseflow.recipes.forecast.quantize import QuantizeConfig, load_integers, quantize, score_integers
from tests.forecast_runs import small_config

recipe = importlib.import_module("sparseflow.recipes.forecast.quantize")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """File of a small forecaster."""
    folder = tmp_path_factory.mktemp("runs")
    return train_forecaster(small_config(folder), progress=False)["file"]


def config(trained, folder, **more):
    return QuantizeConfig(**({"checkpoint": trained, "out": str(folder / "q"), "windows": 40} | more))


@pytest.fixture(scope="module")
def eight(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    return quantize(config(trained, folder), progress=False)


def test_eight_bits_are_as_good_as_float32(trained, eight):
    assert eight["fp32"] == {
        k: v for k, v in evaluate([trained], device="cpu")["tasks"][0].items() if k in eight["fp32"]
    }
    assert eight["integers"]["windows"] == eight["fp32"]["windows"]
    assert eight["integers"]["mse"] == pytest.approx(eight["fp32"]["mse"], rel=0.02)
    assert eight["integers"]["mse"] != eight["fp32"]["mse"]
    check = eight["checks"][0]
    assert check["value"] == pytest.approx(eight["integers"]["mse"] / eight["fp32"]["mse"])
    assert check["target"] == "<= 1.005"


def test_what_is_written_gives_the_same_integers(trained, eight):
    back = load_integers(eight["files"][0])
    assert back.spec.digest == eight["qspec"]
    assert QSpec.from_json(Path(eight["files"][1]).read_text()) == back.spec
    task = open_task(back.forecaster.config, back.forecaster.scaler)
    assert score_integers(back, task.part("test")).to_dict() == eight["integers"]
    # The file is a forecaster as well, with the weights it was made of.
    assert load_forecaster(eight["files"][0]).record["val"] == load_forecaster(trained).record["val"]


def test_the_same_settings_write_the_same_bytes(trained, eight, tmp_path):
    again = quantize(config(trained, tmp_path), progress=False)
    for one, two in zip(eight["files"], again["files"], strict=True):
        assert Path(one).read_bytes() == Path(two).read_bytes()


def test_training_on_codes_mends_few_bits(trained, tmp_path):
    plain = quantize(config(trained, tmp_path / "plain", weights=2, split="val"), progress=False)
    taught = quantize(config(trained, tmp_path / "taught", weights=2, split="val", epochs=4, lr=3e-3), progress=False)
    assert taught["integers"]["mae"] < plain["integers"]["mae"]
    assert [line["epoch"] for line in taught["epochs"]] == [-1, 0, 1, 2, 3]
    assert not taught["epochs"][0]["kept"]
    back = load_integers(taught["files"][0])
    assert back.spec["head.linear.weight"].limit == 1
    assert not torch.equal(back.forecaster.model.head.linear.weight, load_forecaster(trained).model.head.linear.weight)


def test_a_training_that_does_harm_is_dropped(trained, tmp_path):
    plain = quantize(config(trained, tmp_path / "plain", split="val"), progress=False)
    harmed = quantize(
        config(trained, tmp_path / "harmed", split="val", epochs=1, lr=10.0, train_limit=20), progress=False
    )
    assert [line["kept"] for line in harmed["epochs"]] == [True, False]
    assert harmed["integers"] == plain["integers"]
    assert harmed["qspec"] == plain["qspec"]


def test_the_engine_is_compared_with_the_reference(trained, tmp_path, monkeypatch):
    found = quantize(config(trained, tmp_path, compare=True, limit=9), progress=False)
    if recipe.isas():
        assert [c["value"] for c in found["checks"][1:-1]] == [0.0] * len(recipe.isas())
    assert found["checks"][-1]["value"] <= 1
    assert "FakeQuant" in found["checks"][-1]["name"]
    few = quantize(config(trained, tmp_path, compare=True, compare_limit=2), progress=False)
    assert any("of 2 forecasts" in c["name"] for c in few["checks"])
    monkeypatch.setattr(recipe, "isas", list)
    without = quantize(config(trained, tmp_path, compare=True, limit=9), progress=False)
    assert not without["checks"][1]["ok"]
    assert without["integers"] == found["integers"]


def test_training_does_not_go_on_from_other_scales(trained, tmp_path):
    first = quantize(config(trained, tmp_path, weights=3, epochs=1, limit=4), progress=False)
    other = quantize(config(trained, tmp_path, weights=3, epochs=1, limit=4, windows=20), progress=False)
    again = quantize(config(trained, tmp_path, weights=3, epochs=1, limit=4), progress=False)
    assert first["qspec"] != other["qspec"]
    assert again["qspec"] == first["qspec"]
    assert again["epochs"][1]["seconds"] == first["epochs"][1]["seconds"]


def test_some_windows_are_spread(trained, tmp_path):
    few = quantize(config(trained, tmp_path, limit=5), progress=False)
    assert few["integers"]["windows"] == few["fp32"]["windows"] == 5
    assert np.isfinite(few["integers"]["mse"])


def test_a_forecaster_without_integers_says_how_to_get_them(trained):
    with pytest.raises(DataError, match="forecast quantize"):
        load_integers(trained)


def test_the_seed_variant_is_refused(tmp_path):
    base = small_config(tmp_path)
    file = train_forecaster(replace(base, variant="seed", epochs=1), progress=False)["file"]
    with pytest.raises(ConfigError, match="seed"):
        quantize(config(file, tmp_path), progress=False)


@pytest.mark.parametrize(
    "wrong",
    [{"weights": 9}, {"windows": 0}, {"epochs": -1}, {"lr": 0.0}, {"limit": 0}, {"compare_limit": 0}, {"rule": "luck"}],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        QuantizeConfig(checkpoint="x", **wrong)


def test_the_record_is_json(eight):
    assert json.loads(json.dumps(eight)) == eight
