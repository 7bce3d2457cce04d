import json

import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast import evaluate, predict, train_forecaster
from sparseflow.recipes.forecast.dataset import read_series
from sparseflow.recipes.forecast.page import forecast_page
from tests.forecast_runs import small_config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Records of two seeds that learn two of three variates."""
    folder = tmp_path_factory.mktemp("runs")
    more = {"epochs": 2, "targets": ("c", "a")}
    return [train_forecaster(small_config(folder, seed=s, **more), progress=False) for s in (1, 2)], folder


def test_scores_are_those_of_eval_and_beside_them_a_naive_one(runs, tmp_path):
    records, _ = runs
    files = [r["file"] for r in records]
    body = forecast_page(files, tmp_path / "page", device="cpu", command="again")
    scored = evaluate(files, device="cpu")
    rows = {row["name"]: row for row in body["results"]}
    assert list(rows) == ["seed 1", "seed 2", "mean of 2", "the last reading, repeated"]
    assert rows["mean of 2"]["mse"] == pytest.approx(scored["mse"])
    assert rows["seed 2"]["mae"] == pytest.approx(records[1]["test"]["mae"])
    assert json.loads((tmp_path / "page" / "report.json").read_text())["headline"] == body["headline"]
    html = (tmp_path / "page" / "report.html").read_text()
    assert "mean of 2" in html
    assert "again" in html
    by_variate = {row["name"]: row["mse"] for row in body["by_variate"]}
    assert list(by_variate) == ["c", "a"]
    assert np.mean(list(by_variate.values())) == pytest.approx(rows["seed 1"]["mse"])
    assert np.mean(body["by_step"]) == pytest.approx(rows["seed 1"]["mse"])


def test_pictures_hold_the_readings_of_the_file(runs, tmp_path):
    records, folder = runs
    body = forecast_page([records[0]["file"]], tmp_path, device="cpu")
    first, _, last = body["moments"]
    values = read_series(small_config(folder)).values
    view = last["variates"][0]
    assert view["name"] == "c"
    assert np.allclose(view["truth"], values[-4:, 2], atol=1e-4)
    assert np.allclose(view["past"], values[-16:-4, 2], atol=1e-4)
    assert first["title"] == "window 1 of 29, after day 127"
    assert last["title"] == "window 29 of 29, after day 155"
    rows = (folder / "waves.csv").read_text().splitlines()
    (tmp_path / "cut.csv").write_text("\n".join(rows[:-4]) + "\n")
    ahead = predict(records[0]["file"], tmp_path / "cut.csv", device="cpu")
    assert np.allclose(view["forecast"], np.array(ahead["values"])[:, 0], atol=2e-4)


def test_losses_are_those_of_the_trainings(runs, tmp_path):
    records, _ = runs
    body = forecast_page([r["file"] for r in records], tmp_path, device="cpu")
    assert [c["name"] for c in body["losses"]] == ["seed 1", "seed 2"]
    assert list(body["losses"][0]["val"]) == [line["val"] for line in records[0]["history"]]
    assert body["losses"][0]["best"] == records[0]["best_epoch"]


def test_windows_without_test_are_drawn_on_val(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {
        f"{k}_{p}": rng.normal(size=(n, 2, t)) for p, n in (("train", 20), ("val", 5)) for k, t in (("X", 12), ("y", 4))
    }
    np.savez(tmp_path / "w.npz", **arrays)
    config = small_config(tmp_path, dataset="npz", data=str(tmp_path / "w.npz"), epochs=1)
    record = train_forecaster(config, progress=False)
    with pytest.raises(ConfigError, match="no split 'test'"):
        forecast_page([record["file"]], tmp_path / "page")
    body = forecast_page([record["file"]], tmp_path / "page", split="val", moments=2, device="cpu")
    assert [m["title"] for m in body["moments"]] == ["window 1 of 5", "window 5 of 5"]


def test_one_page_is_of_one_task(runs, tmp_path):
    records, _ = runs
    with pytest.raises(ConfigError, match="at least one"):
        forecast_page([], tmp_path)
    other = train_forecaster(small_config(tmp_path, epochs=1, forecast_len=5), progress=False)
    with pytest.raises(ConfigError, match="different tasks"):
        forecast_page([records[0]["file"], other["file"]], tmp_path)
