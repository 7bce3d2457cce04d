import json
from dataclasses import replace

import pytest
import torch

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.nn.models.cmamba import build_model
from sparseflow.recipes.forecast import checks
from sparseflow.recipes.forecast.checks import check_forecast, damaged_files, refusals, revival
from tests.forecast_runs import small_config


def test_every_damaged_file_is_refused(tmp_path):
    body = check_forecast(("files",), out=tmp_path / "new" / "checks.json")
    assert json.loads((tmp_path / "new" / "checks.json").read_text()) == body
    assert "torch" in body["environment"]
    assert body["ok"], [row for row in body["files"] if not all(row[k] for k in ("refused", "key", "mend", "same"))]
    assert [c["value"] for c in body["checks"]] == [20] * 4
    assert len({row["fault"] for row in body["files"]}) == 20


def test_a_loader_that_takes_them_is_found_out(tmp_path, monkeypatch):
    def careless(model, path):
        with torch.no_grad():
            next(model.parameters()).add_(1)

    monkeypatch.setattr(checks, "load_weights", careless)
    assert [c.value for c in refusals(tmp_path)[0]] == [0, 0, 0, 0]


def test_another_kind_of_error_is_no_refusal_by_name(tmp_path, monkeypatch):
    def crash(model, path):
        raise RuntimeError("head.linear.bias take a")

    monkeypatch.setattr(checks, "load_weights", crash)
    assert [c.ok for c in refusals(tmp_path)[0]] == [True, False, False, True]


def test_files_have_one_fault_each(tmp_path):
    model = build_model(small_config(tmp_path).network(7))
    files = damaged_files(model, tmp_path)
    assert len(files) == 20
    assert len({path for _, path in files.values()}) == 20


def test_a_killed_training_ends_with_the_same_bits(tmp_path):
    config = small_config(tmp_path, epochs=12, patience=12)
    held, about = revival(tmp_path, config=config)
    assert all(c.ok for c in held), held
    assert 2 <= about["epochs_before_the_kill"] <= about["epochs"] == 12


def test_a_training_that_goes_on_otherwise_is_found_out(tmp_path, monkeypatch):
    config = small_config(tmp_path, epochs=2)
    trained = checks.train_forecaster

    def train(c, **more):
        return trained(replace(c, seed=1 + ("cut" in c.out), epochs=2), **more)

    def kill(cut):
        (cut.folder).mkdir(parents=True)
        (cut.folder / "metrics.jsonl").write_text("")
        return -9

    monkeypatch.setattr(checks, "train_forecaster", train)
    monkeypatch.setattr(checks, "_killed", kill)
    held, _ = revival(tmp_path, config=config)
    assert [c.ok for c in held] == [True, False, False, False]


def test_a_training_that_cannot_be_killed_in_time_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_TRAIN", "pass")
    with pytest.raises(MeasurementError, match="was to be killed"):
        revival(tmp_path, config=small_config(tmp_path, epochs=1))


def test_no_suite_proves_nothing():
    with pytest.raises(ConfigError, match="proves nothing"):
        check_forecast(())
