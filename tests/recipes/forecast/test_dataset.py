import numpy as np
import pytest
import torch

from sparseflow.data import Scaler, ett
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast import ForecastConfig
from sparseflow.recipes.forecast.dataset import open_task, read_series
from tests.forecast_runs import small_config


def test_the_shipped_series_is_divided_as_published():
    task = open_task(ForecastConfig())
    assert {k: len(v) for k, v in task.parts.items()} == {"train": 8449, "val": 2785, "test": 2785}
    assert (task.name, task.columns[-1], task.targets) == ("ETTh1", "OT", tuple(range(7)))
    assert [task.dates[task.starts[s]] for s in ("train", "test")] == ["2016-07-01 00:00:00", "2017-10-20 00:00:00"]
    x, y = task.part("test").take(torch.tensor([2784]))
    assert (x.shape, y.shape) == ((1, 7, 96), (1, 7, 96))
    want = (ett().values[14399] - task.scaler.mean) / task.scaler.std
    assert np.allclose(y[0, :, -1].numpy(), want, rtol=1e-6)


def test_any_series_is_divided_by_shares(tmp_path):
    task = open_task(small_config(tmp_path, targets=("c", "a")))
    assert {k: len(v) for k, v in task.parts.items()} == {"train": 112 - 15, "val": 16 + 12 - 15, "test": 32 + 12 - 15}
    assert (task.columns, task.targets) == (("a", "b", "c"), (2, 0))
    with pytest.raises(ConfigError, match="'more'"):
        task.part("more")


def test_columns_are_chosen(tmp_path):
    config = small_config(tmp_path, columns=("c", "b"))
    assert read_series(config).columns == ("c", "b")
    assert open_task(config).columns == ("c", "b")
    for more in ({"columns": ("z",)}, {"targets": ("z",)}, {"columns": ("a",), "targets": ("b",)}):
        with pytest.raises(ConfigError, match="there are"):
            open_task(small_config(tmp_path, **more))


def test_an_earlier_scaler_is_taken(tmp_path):
    scaler = Scaler(mean=(0.0,) * 3, std=(1.0,) * 3)
    task = open_task(small_config(tmp_path), scaler)
    x, _ = task.part("train").take(torch.tensor([0]))
    assert np.allclose(x[0, :, 0].numpy(), read_series(small_config(tmp_path)).values[0], rtol=1e-6)


def pairs(tmp_path, **more):
    body = {
        "X_train": np.ones((6, 2, 12)), "y_train": np.ones((6, 2, 4)), "X_val": np.ones((3, 2, 12)),
        "y_val": np.ones((3, 2, 4)),
    }  # fmt: skip
    np.savez(tmp_path / "p.npz", **(body | more))
    return small_config(tmp_path, dataset="npz", data=str(tmp_path / "p.npz"), targets=("v1",))


def test_windows_come_as_they_are(tmp_path):
    task = open_task(pairs(tmp_path))
    assert {k: len(v) for k, v in task.parts.items()} == {"train": 6, "val": 3}
    assert (task.columns, task.targets, task.scaler) == (("v0", "v1"), (1,), None)
    with pytest.raises(ConfigError, match="train, val"):
        task.part("test")


def test_windows_that_do_not_fit_are_named(tmp_path):
    with pytest.raises(DataError, match=r"\[N, V, L\]"):
        open_task(pairs(tmp_path, y_train=np.ones((6, 2)), y_val=np.ones((3, 2))))
    with pytest.raises(DataError, match="forecast_len 5, not 4"):
        open_task(pairs(tmp_path, y_train=np.ones((6, 2, 5)), y_val=np.ones((3, 2, 5))))
    config = ForecastConfig.from_dict(pairs(tmp_path).to_dict(all=True) | {"targets": ("a",)})
    with pytest.raises(ConfigError, match="v0 to v1"):
        open_task(config)
