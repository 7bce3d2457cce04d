"""Packs of trained forecasters."""

import numpy as np
import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.export.fpga.pack import read_pack
from sparseflow.recipes.forecast import train_forecaster
from sparseflow.recipes.forecast.export import ExportConfig, export_forecaster
from sparseflow.recipes.forecast.quantize import QuantizeConfig, load_integers, quantize
from tests.forecast_runs import small_config


@pytest.fixture(scope="module")
def quantised(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    trained = train_forecaster(small_config(folder), progress=False)["file"]
    made = quantize(QuantizeConfig(checkpoint=trained, out=str(folder / "q"), windows=40, limit=8), progress=False)
    return trained, made["files"][0]


def test_a_pack_holds_what_was_quantised(quantised, tmp_path):
    body = export_forecaster(ExportConfig(checkpoint=quantised[1], windows=3, out=str(tmp_path)))
    found, pack = load_integers(quantised[1]), read_pack(tmp_path)
    assert pack.spec.digest == found.spec.digest == body["digest"]
    assert all(np.array_equal(pack.arrays[name], values) for name, values in found.arrays.items())
    assert len(pack.golden["input"]) == 3
    scaler = found.forecaster.scaler
    assert pack.spec.note["readings"] == {
        "columns": list(found.forecaster.columns), "mean": list(scaler.mean), "std": list(scaler.std)
    }  # fmt: skip
    assert body["bytes"] == (tmp_path / "weights.bin").stat().st_size
    assert body["padded_forecast_len"] % 8 == 0
    assert 0 <= body["padded_forecast_len"] - body["forecast_len"] < 8


def test_what_was_never_quantised_is_refused(quantised, tmp_path):
    with pytest.raises(DataError, match="sparseflow forecast quantize"):
        export_forecaster(ExportConfig(checkpoint=quantised[0], out=str(tmp_path)))
    with pytest.raises(ConfigError, match="at least 1"):
        ExportConfig(checkpoint="x", windows=0)
