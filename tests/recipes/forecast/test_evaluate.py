import json
import shutil

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast import evaluate, load_forecaster, train_forecaster
from tests.forecast_runs import small_config, write_series


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Records of two seeds, and the folder."""
    folder = tmp_path_factory.mktemp("runs")
    return [train_forecaster(small_config(folder, epochs=1, seed=s), progress=False) for s in (1, 2)], folder


def test_the_figures_are_those_of_the_training_and_their_mean(runs, tmp_path):
    records, _ = runs
    out = tmp_path / "new" / "seeds.json"
    one = evaluate([records[0]["file"]], device="cpu")
    assert (one["mse"], one["mae"], one["windows"]) == tuple(records[0]["test"][k] for k in ("mse", "mae", "windows"))
    assert "mse_stdev" not in one
    both = evaluate([r["file"] for r in records], device="cpu", out=out)
    written = json.loads(out.read_text())
    assert {k: written[k] for k in both} == both
    assert "torch" in written["environment"]
    errors = [r["test"]["mse"] for r in records]
    assert both["mse"] == pytest.approx(sum(errors) / 2)
    assert both["mse_stdev"] == pytest.approx(abs(errors[0] - errors[1]) / 2**0.5)
    assert [run["seed"] for run in both["runs"]] == [1, 2]


def test_other_splits_and_places_of_the_data(runs, tmp_path):
    records, folder = runs
    val = evaluate([records[0]["file"]], split="val", device="cpu")
    assert val["mae"] == pytest.approx(records[0]["val"]["mae"], rel=1e-6)
    moved = shutil.copy(folder / "waves.csv", tmp_path / "waves.csv")
    assert evaluate([records[0]["file"]], data=moved, device="cpu")["mse"] == records[0]["test"]["mse"]


def test_later_readings_are_scaled_as_in_the_training(runs, tmp_path):
    records, folder = runs
    longer = tmp_path / "waves.csv"
    lines = (folder / "waves.csv").read_text().splitlines()
    longer.write_text("\n".join([*lines, *(f"later,{9 + i},{9 - i},0" for i in range(40))]) + "\n")
    assert evaluate([records[0]["file"]], data=str(longer), device="cpu")["mse"] > 2 * records[0]["test"]["mse"]


def test_what_does_not_fit_is_said(runs, tmp_path):
    records, _ = runs
    file = records[0]["file"]
    with pytest.raises(ConfigError, match="at least one"):
        evaluate([])
    with pytest.raises(ConfigError, match="no split 'all'"):
        evaluate([file], split="all")
    with pytest.raises(DataError, match=r"none\.csv"):
        evaluate([file], data=str(tmp_path / "none.csv"))
    path = write_series(tmp_path)
    path.write_text(path.read_text().replace("date,a,b,c", "date,a,b,d"))
    with pytest.raises(ConfigError, match="a, b, c"):
        evaluate([file], data=str(path))


def test_checkpoints_of_several_tasks_are_told_apart(runs, tmp_path):
    records, _ = runs
    other = train_forecaster(small_config(tmp_path, epochs=1, forecast_len=5), progress=False)
    body = evaluate([r["file"] for r in (*records, other)], device="cpu")
    assert [(t["task"], len(t["seeds"])) for t in body["tasks"]] == [("waves_4", 2), ("waves_5", 1)]
    assert "mse" not in body
    assert "checks" not in body


@pytest.mark.slow
def test_the_forecaster_that_ships_reaches_what_its_record_says():
    found = load_forecaster("cmamba_etth1_96")
    assert found.model.args == found.config.network(7)
    body = evaluate(["cmamba_etth1_96"], device="cpu")
    assert body["windows"] == 2785
    # It was scored in TF32 where it was trained.
    assert body["mse"] == pytest.approx(found.record["test"]["mse"], rel=1e-3)
    assert body["mae"] == pytest.approx(found.record["test"]["mae"], rel=1e-3)
    assert [c["target"] for c in body["checks"]] == ["<= 0.375", "<= 0.389"]
