import json

import pytest

from sparseflow.errors import ConfigError
from sparseflow.report import Ahead, ForecastRun, Losses
from tests.report.forecast_run import made_forecast


def test_the_mean_is_told_and_else_the_only_result():
    run = made_forecast()
    assert run.headline == "MSE 0.380, MAE 0.386 on all 2785 test windows"
    alone = ForecastRun(title="t", split="val", windows=3, seq_len=2, forecast_len=1, results=run.results[:1])
    assert alone.headline == "MSE 0.370, MAE 0.385 on all 3 val windows"


def test_it_becomes_plain_data():
    body = json.loads(json.dumps(made_forecast().to_dict()))
    assert body["schema"] == 1
    assert body["results"][2] == {"name": "mean of 2", "mse": 0.38, "mae": 0.386, "kind": "mean"}
    assert body["moments"][0]["variates"][1]["name"] == "load<1>"


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="no result"):
        ForecastRun(title="t", split="val", windows=3, seq_len=2, forecast_len=1, results=())
    with pytest.raises(ConfigError, match="1 readings seen, 2 came, 1 forecast"):
        Ahead(name="a", past=(1.0,), truth=(1.0, 2.0), forecast=(1.0,))
    for train, val, best in (((1.0,), (1.0, 2.0), 0), ((1.0,), (1.0,), 1), ((), (), 0)):
        with pytest.raises(ConfigError, match="best epoch"):
            Losses(name="a", train=train, val=val, best=best)
