import hashlib
from pathlib import Path

import numpy as np
import pytest

import sparseflow
from sparseflow.data import ETT, csv_series, ett, ett_ends, split_series
from sparseflow.errors import ConfigError, DataError

SHIPPED = Path(sparseflow.__file__).parent / "assets" / "ett"


def test_the_shipped_file_is_the_original_byte_for_byte():
    found = hashlib.sha256((SHIPPED / "ETTh1.csv").read_bytes()).hexdigest()
    assert found == "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066"
    assert "NoDerivatives" in (SHIPPED / "LICENSE.ETDataset").read_text()


def test_the_shipped_series_is_read():
    s = ett()
    assert (s.name, s.columns) == ("ETTh1", ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"))
    assert s.values[0].tolist()[0] == 5.827000141143799
    assert (s.dates[0], s.dates[-1], len(s)) == ("2016-07-01 00:00:00", "2018-06-26 19:00:00", 17420)


@pytest.mark.parametrize(("length", "windows"), [(96, (8449, 2785, 2785)), (720, (7825, 2161, 2161))])
def test_windows_of_the_published_split(length, windows):
    parts = split_series(ett(), seq_len=96, forecast_len=length, ends=ett_ends("etth1"))
    assert (len(parts.train), len(parts.val), len(parts.test)) == windows
    assert abs(np.mean(parts.train.values.numpy().astype(np.float64))) < 1e-6
    assert parts.test.values[96].numpy() == pytest.approx((ett().values[11520] - parts.scaler.mean) / parts.scaler.std)


def test_minutes_are_four_times_as_many():
    assert ett_ends("ETTm2") == tuple(4 * end for end in ett_ends("ETTh2"))


def test_a_folder_or_a_file_is_taken_in_any_case():
    for path in (SHIPPED, SHIPPED / "ETTh1.csv"):
        assert len(ett("etth1", path)) == 17420


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=", ".join(ETT)):
        ett("ETTx")
    with pytest.raises(DataError, match="ETTm1 does not ship"):
        ett("ETTm1")
    (tmp_path / "ETTh2.csv").write_text("date,a\nx,1\ny,2\n")
    assert len(csv_series(tmp_path / "ETTh2.csv")) == 2
    with pytest.raises(DataError, match="at least 14400"):
        ett("ETTh2", tmp_path)
