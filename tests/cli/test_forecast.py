import json

import numpy as np
import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.recipes import forecast
from sparseflow.recipes.forecast import ForecastConfig
from tests.forecast_runs import small_config, write_series


def call(*arguments):
    return CliRunner().invoke(app, ["forecast", *map(str, arguments)])


@pytest.fixture
def seen(monkeypatch):
    """What the training is called with; it returns a made-up record."""
    found = []

    def take(config, progress):
        found.append(config)
        return {
            "task": "t", "epochs": 2, "val": {"mae": 0.5}, "test": {"windows": 3, "mse": 0.25, "mae": 0.125},
            "file": "f",
        }  # fmt: skip

    monkeypatch.setattr(forecast, "train_forecaster", take)
    monkeypatch.setattr("sparseflow.recipes.forecast.page.forecast_page", lambda *_, **__: {})
    return found


def test_the_help_shows_every_command():
    text = call("--help").output
    for name in ("train", "eval", "table", "report", "demo", "check", "predict"):
        assert name in text
        result = call(name, "--help")
        assert result.exit_code == 0
        assert "Example" in result.output


def test_without_options_the_published_settings_are_trained(seen):
    result = call("train")
    assert result.exit_code == 0, result.output
    assert seen == [ForecastConfig()]
    assert "test, 3 windows: MSE 0.2500, MAE 0.1250" in result.stdout


@pytest.mark.parametrize("way", [(), ("--config",)])
def test_options_override_the_file(seen, tmp_path, way):
    path = tmp_path / "c.yaml"
    path.write_text("dataset: ETTh2\nforecast_len: 336\nlr: 1.0e-3\nmodel_args:\n  n_layer: 2\n  dropout: 0.0\n")
    result = call("train", *way, path, "--lr", "0.01", "--d-model", "32", "--data", "x", "--epochs", "7", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert seen == [
        ForecastConfig(
            dataset="ETTh2", data="x", forecast_len=336, lr=0.01, epochs=7, seed=3,
            model_args={"n_layer": 2, "dropout": 0.0, "d_model": 32},
        )
    ]  # fmt: skip


def test_any_file_may_be_trained_on(seen):
    assert call("train", "--csv", "a.csv", "--target", "x", "--target", "y", "--missing", "-9999").exit_code == 0
    assert call("train", "--npz", "a.npz").exit_code == 0
    assert seen == [
        ForecastConfig(dataset="csv", data="a.csv", targets=("x", "y"), missing=-9999.0),
        ForecastConfig(dataset="npz", data="a.npz"),
    ]


@pytest.mark.parametrize(
    "line",
    ["--csv a --npz b", "--csv a --dataset ETTh1", "--csv a --data b", "--dataset ETTx", "--lr 0", "a.yaml --config b"],
)
def test_bad_options_are_told_in_one_line(seen, line):
    result = call("train", *line.split())
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert not seen


def test_the_whole_way(tmp_path):
    write_series(tmp_path)
    config = small_config(tmp_path, epochs=2)
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({k: v for k, v in config.to_dict(all=True).items() if v is not None}))
    result = call("train", path, "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    result = call("eval", "--checkpoint", record["file"], "--json")
    assert json.loads(result.stdout)["mse"] == record["test"]["mse"]
    text = call("eval", "--checkpoint", record["file"], "--checkpoint", record["file"]).stdout
    assert f"{record['test']['windows']} windows, mean of 2: MSE {record['test']['mse']:.4f} ± 0.0000" in text
    page = tmp_path / "out" / "waves_4_official_seed2021" / "report.html"
    assert f"--checkpoint {record['file']}" in page.read_text()
    page.unlink()
    told = call("report", "--checkpoint", record["file"], "--out", tmp_path / "page", "--moments", "1").stdout
    assert (
        told.splitlines()[0]
        == f"MSE {record['test']['mse']:.3f}, MAE {record['test']['mae']:.3f} on all 29 test windows"
    )
    assert (tmp_path / "page" / "report.html").read_text().count('<svg class="ahead"') == 3
    assert call("train", path, "--no-page").exit_code == 0
    assert not page.exists()
    text = call("table", tmp_path / "out", "--out", tmp_path / "t.json").stdout
    assert f"mean of 1: MSE {record['test']['mse']:.4f}, MAE" in text
    assert json.loads((tmp_path / "t.json").read_text())["runs"][0]["mse"] == record["test"]["mse"]
    told = call("table", tmp_path / "out", "--against", tmp_path / "t.json").stdout
    assert "MAE on val, over that of the others: 1.0000 (1 trainings of each)" in told
    result = call("predict", "--checkpoint", record["file"], "--csv", tmp_path / "waves.csv")
    assert result.stdout.splitlines()[0] == "step,a,b,c"
    assert len(result.stdout.splitlines()) == 5
    out = tmp_path / "ahead.csv"
    told = call("predict", "--checkpoint", record["file"], "--csv", tmp_path / "waves.csv", "--out", out).stdout
    assert "4 readings of 3 variates" in told
    assert out.read_text() == result.stdout
    body = json.loads(call("predict", "--checkpoint", record["file"], "--csv", tmp_path / "waves.csv", "--json").stdout)
    assert len(body["values"]) == 4
    np.savez(tmp_path / "x.npz", x=np.ones((5, 3, 12)))
    windows = ("predict", "--checkpoint", record["file"], "--input", tmp_path / "x.npz")
    assert call(*windows).stdout == "output: (5, 3, 4)\n"
    assert call(*windows, "--out", tmp_path / "y.npz").exit_code == 0
    said = json.loads(call(*windows, "--json").stdout)["values"]
    with np.load(tmp_path / "y.npz") as found:
        assert np.allclose(found["y"], said, rtol=1e-6)
    assert json.loads(call(*windows, "--out", tmp_path / "y.npz", "--json").stdout) == {"shape": [5, 3, 4]}
    for wrong in ((), ("--csv", "a", "--input", "b")):
        result = call("predict", "--checkpoint", record["file"], *wrong)
        assert result.exit_code == 2
        assert "either --csv" in result.stderr


def test_a_missing_checkpoint_is_told_in_one_line(tmp_path):
    result = call("eval", "--checkpoint", tmp_path / "none")
    assert result.exit_code == 2
    assert "sparseflow forecast train" in result.stderr


def test_a_missed_target_is_told_and_fails_where_asked(monkeypatch):
    task = {"task": "ETTh1_96", "windows": 2785, "seeds": [1, 2], "mse": 0.4, "mae": 0.38, "mse_stdev": 0.01}
    missed = {"show": "1", "name": "MSE", "value": 0.4, "unit": "", "target": "<= 0.375", "ok": False}
    body = {
        "tasks": [task], "averages": [{"dataset": "ETTh2", "mse": 0.3, "mae": 0.2}], "checks": [missed], "ok": False
    }  # fmt: skip
    seen = []
    monkeypatch.setattr(forecast, "evaluate", lambda files, **more: seen.append(files) or {**body, "runs": []})
    monkeypatch.setattr(forecast, "table_of", lambda places, against: body)
    for line in (("eval",), ("table", "x")):
        result = call(*line)
        assert result.exit_code == 0
        assert "mean of 2: MSE 0.4000 ± 0.0100, MAE 0.3800" in result.stdout
        assert "ETTh2, mean of the four horizons: MSE 0.3000, MAE 0.2000" in result.stdout
        assert "0 of 1 checks hold" in result.stdout
        assert call(*line, "--check").exit_code == 1
    assert list(seen[0]) == ["cmamba_etth1_96"]


def test_the_demo_is_the_page_of_what_ships(monkeypatch, tmp_path):
    seen = []

    def take(names, folder, **more):
        seen.append((names, folder, more["moments"], more["command"]))
        return {"headline": "h", "files": ["f"]}

    monkeypatch.setattr("sparseflow.recipes.forecast.page.forecast_page", take)
    assert call("demo", "--out", tmp_path).stdout == "h\nf\n"
    again = "sparseflow forecast report --checkpoint cmamba_etth1_96 --moments 5"
    assert seen == [(["cmamba_etth1_96"], str(tmp_path), 5, again)]
    assert json.loads(call("demo", "--json").stdout) == {"headline": "h", "files": ["f"]}


def test_promises_are_checked_and_a_broken_one_fails(monkeypatch):
    result = call("check", "--suite", "files", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True
    assert call("check", "--suite", "none").exit_code == 2
    row = {"show": "5", "name": "n", "value": 1, "unit": "", "target": "== 20", "ok": False}
    monkeypatch.setattr(
        "sparseflow.recipes.forecast.checks.check_forecast", lambda suites, out: {"checks": [row], "ok": False}
    )  # fmt: skip
    result = call("check")
    assert result.exit_code == 1
    assert "0 of 1 checks hold" in result.stdout


def test_the_bench_takes_its_options_and_ends_with_the_checks(monkeypatch, tmp_path):
    configs = []

    def run(config, progress):
        configs.append(config)
        ok = len(configs) == 1
        row = {"show": "3", "name": "n", "value": 1.0, "unit": "x", "target": ">= 10", "ok": ok}
        return {"checks": [row], "ok": ok}

    monkeypatch.setattr("sparseflow.recipes.forecast.bench.bench", run)
    options = ("--suite", "errors", "--form", "graph", "--threads", 1, "--threads", 2, "--no-compile")
    done = call("bench", "--json", *options, "--out", tmp_path / "b.json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["ok"] is True
    config = configs[0]
    assert (config.suites, config.forms, config.threads, config.compile) == (("errors",), ("graph",), (1, 2), False)
    assert config.out == str(tmp_path / "b.json")
    done = call("bench")
    assert done.exit_code == 1
    assert "0 of 1 checks hold" in done.stdout
    assert call("bench", "--suite", "none").exit_code == 2
