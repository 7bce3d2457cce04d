import numpy as np
import pytest
import torch

from sparseflow.data import csv_series
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast import load_forecaster, predict, predict_windows, train_forecaster
from tests.forecast_runs import small_config


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return train_forecaster(small_config(folder, epochs=4, targets=("c", "b")), progress=False)["file"], folder


def test_what_follows_is_in_the_units_of_the_file(run):
    file, folder = run
    found = predict(file, folder / "waves.csv", device="cpu")
    assert (found["columns"], found["after"]) == (["c", "b"], "day 159")
    values = np.array(found["values"])
    assert values.shape == (4, 2)
    f = load_forecaster(file)
    seen = (csv_series(folder / "waves.csv").values[-12:] - f.scaler.mean) / f.scaler.std
    with torch.no_grad():
        ahead = f.model(torch.tensor(seen.T[None], dtype=torch.float32))[0].double().numpy()
    for i, column in enumerate((2, 1)):
        assert np.allclose(values[:, i], ahead[column] * f.scaler.std[column] + f.scaler.mean[column], rtol=1e-5)
    assert abs(values[:, 1].mean() - 5) < 3


def test_columns_are_found_by_name_and_missing_ones_named(run, tmp_path):
    file, folder = run
    s = csv_series(folder / "waves.csv")
    other = tmp_path / "other.csv"
    rows = [f"{b},{c},7,{a}" for a, b, c in s.values.tolist()]
    other.write_text("b,c,more,a\n" + "\n".join(rows) + "\n")
    found = predict(file, other, device="cpu")
    assert found["after"] is None
    assert found["values"] == predict(file, folder / "waves.csv", device="cpu")["values"]
    other.write_text(other.read_text().replace("b,c,more,a", "b,c,more,z"))
    with pytest.raises(ConfigError, match="no column a"):
        predict(file, other)


def test_too_few_readings_are_named(run, tmp_path):
    file, folder = run
    lines = (folder / "waves.csv").read_text().splitlines()
    short = tmp_path / "short.csv"
    short.write_text("\n".join(lines[:12]) + "\n")
    with pytest.raises(DataError, match="11 readings; the network sees 12"):
        predict(file, short)
    short.write_text("\n".join(lines[:13]) + "\n")
    assert len(predict(file, short, device="cpu")["values"]) == 4


def test_windows_have_no_units(tmp_path):
    body = {
        f"{k}_{p}": np.random.default_rng(0).normal(size=(40, 3, n))
        for p in ("train", "val")
        for k, n in (("X", 12), ("y", 4))
    }
    np.savez(tmp_path / "p.npz", **body)
    config = small_config(tmp_path, epochs=1, dataset="npz", data=str(tmp_path / "p.npz"))
    record = train_forecaster(config, progress=False)
    assert "test" not in record
    with pytest.raises(DataError, match="as they are"):
        predict(record["file"], tmp_path / "waves.csv")
    np.savez(tmp_path / "x.npz", x=body["X_val"])
    with torch.no_grad():
        want = load_forecaster(record["file"]).model(torch.tensor(body["X_val"], dtype=torch.float32))
    assert torch.equal(predict_windows(record["file"], tmp_path / "x.npz", device="cpu"), want)


def test_windows_in_a_batch_are_forecast_as_the_file_they_are_from(run, tmp_path):
    file, folder = run
    values = csv_series(folder / "waves.csv").values
    x = np.stack([values[i : i + 12].T for i in (0, 50, 148)])
    np.savez(tmp_path / "x.npz", x=x)
    y = predict_windows(file, tmp_path / "x.npz", device="cpu")
    assert y.shape == (3, 3, 4)
    assert np.allclose(y[2, [2, 1]].T, predict(file, folder / "waves.csv", device="cpu")["values"], rtol=1e-4)
    for bad in (x[:, :2], x[..., :5]):
        np.savez(tmp_path / "x.npz", x=bad)
        with pytest.raises(DataError, match=r"sees \[B, 3, 12\]"):
            predict_windows(file, tmp_path / "x.npz")
