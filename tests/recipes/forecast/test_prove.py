"""The whole proof of small forecasters."""

import importlib
import json
from dataclasses import replace

import pytest

from sparseflow.errors import ConfigError
from sparseflow.nn.models.cmamba.int_engine import isas
from sparseflow.recipes.forecast import train_forecaster
from sparseflow.recipes.forecast.prove import ProveConfig, prove
from tests.export.fpga.marks import needs_verilator
from tests.forecast_runs import small_config

recipe = importlib.import_module("sparseflow.recipes.forecast.prove")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Files of two small forecasters."""
    base = small_config(tmp_path_factory.mktemp("runs"))
    return tuple(train_forecaster(replace(base, seed=seed, epochs=1), progress=False)["file"] for seed in (1, 2))


def config(trained, folder, **more):
    return ProveConfig(
        **(
            {"checkpoints": trained, "folder": str(folder / "proof"), "out": str(folder / "r.json"), "cells": False,
             "vectors": 600, "train_limit": 32, "limit": 12}
            | more
        )
    )  # fmt: skip


@needs_verilator
@pytest.mark.skipif(not isas(), reason="no compiled kernels")
def test_every_forecaster_in_three_forms_and_the_pack_of_the_first(trained, tmp_path):
    said = []
    body = prove(config(trained, tmp_path), progress=False, say=said.append)
    assert json.loads((tmp_path / "r.json").read_text()) == json.loads(json.dumps(body))
    assert [task["task"] for task in body["tasks"]] == ["waves_4", "waves_4"]
    for task in body["tasks"]:
        assert list(task["forms"]) == ["W8A8", "W4A8", "W4A8, LSQ"]
        assert task["forms"]["W4A8, LSQ"]["trained_s"] > 0 == task["forms"]["W4A8"]["trained_s"]
        assert [line["epoch"] for line in task["forms"]["W4A8, LSQ"]["epochs"]] == [-1, 0, 1]
    assert body["pack"]["qspec"] == body["tasks"][0]["forms"]["W8A8"]["qspec"]
    shows = {check["show"] for check in body["checks"]}
    assert shows == {"1", "2", "4", "5", "6"}
    near = [check for check in body["checks"] if "FakeQuant" in check["name"]]
    assert [check["value"] <= 1 for check in near] == [True, True]
    exact = [check for check in body["checks"] if "unlike the reference" in check["name"]]
    assert [check["value"] for check in exact] == [0.0] * 2 * len(isas())
    assert all(check["ok"] for check in body["checks"] if check["show"] != "2")
    assert body["ok"] == all(check["ok"] for check in body["checks"])
    assert body["environment"]["Processor"]
    assert said[0].endswith("W8A8")


def test_a_bound_that_does_not_hold_is_no_proof(trained, tmp_path, monkeypatch):
    check = {"show": "2", "name": "MSE over FP32", "value": 1.1, "unit": "x", "target": "<= 1.005", "ok": False}
    scores = {"mse": 1.0, "mae": 1.0, "windows": 1}
    monkeypatch.setattr(
        recipe, "quantize",
        lambda *_, **__: {"task": "a", "split": "test", "fp32": scores, "integers": scores, "qspec": "q", "epochs": [],
                          "files": ["f"], "checks": [check]},
    )  # fmt: skip
    monkeypatch.setattr(recipe, "export_forecaster", lambda *_: None)
    monkeypatch.setattr(recipe, "verify", lambda *_, **__: {"checks": [{**check, "ok": True}], "environment": {}})
    body = prove(config(trained, tmp_path, out=None), progress=False)
    assert body["ok"] is False
    assert [check["name"] for check in body["checks"]].count("a, W4A8, LSQ MSE over FP32") == 2


@pytest.mark.parametrize(
    "wrong", [{"checkpoints": ()}, {"epochs": 0}, {"train_limit": 0}, {"vectors": -1}, {"lr": 0.0}]
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        ProveConfig(**wrong)
