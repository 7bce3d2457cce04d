import json

from sparseflow.recipes.forecast.choose import on_val
from sparseflow.recipes.forecast.results import HORIZONS, summarize
from tools.render_forecast import choice, horizons, scans
from tools.render_tables import render


def made():
    runs = [
        {"task": f"{d}_{f}", "dataset": d, "forecast_len": f, "seed": s, "mse": 0.3 + f / 1e4, "mae": 0.4, "windows": 9,
         "benchmark": True, "commit": "0123456789abcdef"}
        for d, f, s in (*(("ETTm1", f, 1) for f in HORIZONS), ("ETTh1", 96, 1), ("ETTh1", 96, 2), ("ETTh1", 192, 1))
    ]  # fmt: skip
    return {**summarize(runs), "runs": runs, "device": "a GPU", "versions": {"torch": "2.11"}}


def test_a_row_a_series_with_the_mean_and_the_papers():
    lines = horizons(made()).splitlines()
    assert lines[0] == "| series | 96 | 192 | 336 | 720 | mean | CMamba's paper | seeds |"
    assert lines[2] == "| ETTh1 | 0.310 / 0.400 | 0.319 / 0.400 |  |  |  |  | 2, 1 |"
    assert lines[3].endswith("| 0.372 / 0.400 | 0.334 / 0.400 | 0.376 / 0.379 | 1 |")
    assert "whose deviation is at most MSE 0.0000, MAE 0.0000. a GPU. torch 2.11" in lines[-1]
    assert "commit 0123456789ab." in lines[-1]


def test_it_stands_where_the_document_asks_for_it(tmp_path):
    (tmp_path / "f.json").write_text(json.dumps(made()))
    text = render("<!-- table: f.horizons? -->\n<!-- /table -->", tmp_path)
    assert horizons(made()) in text


def test_two_settings_on_val():
    ours = [{"task": "ETTh1_96", "seed": s, "val_mae": 0.5} for s in (1, 2)]
    theirs = [{**run, "val_mae": 0.4} for run in ours]
    assert choice({"val": on_val(ours, theirs)}).splitlines()[2:] == [
        "| ETTh1, 96 | 0.5000 | 0.4000 | 1.2500 | 2 |",
        "| geometric mean | | | **1.2500** | |",
    ]


def test_scans_by_form():
    row = {"sequences": 448, "steps": 12, "form": "graph", "ours_s": 85.7e-6, "rival_s": 1637e-6, "ratio": 19.15,
           "ours_bytes": 27 << 20, "rival_bytes": 475 << 20}  # fmt: skip
    failed = {**dict.fromkeys(row), "sequences": 8, "steps": 2048, "form": "compiled", "failure": "not compiled"}
    lines = scans({"speed": [row, failed]}).splitlines()
    assert lines[2:] == ["| 448, 12 | graph | 86 | 1,637 | 19.1 | 27 | 475 |", "| 8, 2048 | compiled |  |  |  |  |  |"]
