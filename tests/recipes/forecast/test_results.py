import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.forecast import ForecastConfig
from sparseflow.recipes.forecast.results import HORIZONS, PUBLISHED, is_benchmark, summarize


def run(dataset="ETTh1", f=96, seed=1, mse=0.37, mae=0.38, **more):
    given = {"task": f"{dataset}_{f}", "dataset": dataset, "forecast_len": f, "seed": seed, "mse": mse, "mae": mae}
    return {**given, "windows": 2785, "benchmark": True, **more}


def test_means_over_seeds_and_their_deviation():
    body = summarize([run(seed=s, mse=m) for s, m in ((1, 0.36), (2, 0.38))])
    (task,) = body["tasks"]
    assert (task["seeds"], task["windows"]) == ([1, 2], 2785)
    assert task["mse"] == pytest.approx(0.37)
    assert task["mse_stdev"] == pytest.approx(0.02 / 2**0.5)
    assert task["mae_stdev"] == 0
    assert "mse_stdev" not in summarize([run()])["tasks"][0]


def test_the_task_with_a_target_is_held_against_it():
    body = summarize([run(mse=0.3751, mae=0.389)])
    assert [(c["value"], c["ok"]) for c in body["checks"]] == [(0.3751, False), (0.389, True)]
    assert body["ok"] is False
    assert summarize([run(mse=0.375)])["ok"] is True


def test_averages_need_all_horizons_and_may_be_one_percent_above_the_paper():
    mse, mae = PUBLISHED["ETTm1"]
    runs = [
        run("ETTm1", f, mse=mse * 1.009 + d, mae=mae) for f, d in zip(HORIZONS, (-0.03, 0.0, 0.01, 0.02), strict=True)
    ]
    body = summarize(runs)
    (row,) = body["averages"]
    assert row["mse"] == pytest.approx(mse * 1.009)
    assert body["ok"] is True
    worse = [{**r, "mse": r["mse"] + 0.002 * mse} for r in runs]
    assert [c["ok"] for c in summarize(worse)["checks"]] == [False, True]
    few = summarize(runs[:3])
    assert not few["averages"]
    assert "checks" not in few


def test_only_the_test_of_a_benchmark_is_held_against_the_paper():
    assert "checks" not in summarize([run()], split="val")
    assert "checks" not in summarize([run(benchmark=False)])
    assert "checks" not in summarize([run(), run(benchmark=False)])


def test_which_tasks_the_paper_reports():
    assert is_benchmark(ForecastConfig())
    for other in (
        {"seq_len": 48},
        {"targets": ("OT",)},
        {"columns": ("OT",)},
        {"forecast_len": 24},
        {"train_limit": 640},
    ):
        assert not is_benchmark(ForecastConfig(**other))
    assert not is_benchmark(ForecastConfig(dataset="csv", data="ETTh1.csv"))


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(ConfigError, match="no scored training"):
        summarize([])
    with pytest.raises(ConfigError, match="2784 and 2785"):
        summarize([run(), run(windows=2784)])
