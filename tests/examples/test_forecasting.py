from pathlib import Path

import pytest

from examples import forecasting
from sparseflow.recipes.forecast import train_forecaster
from tests.forecast_runs import small_config


def test_it_tells_the_error_of_every_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = train_forecaster(small_config(tmp_path, epochs=1, seq_len=24), progress=False)
    monkeypatch.setattr(forecasting, "CHECKPOINT", record["file"])
    forecasting.main()
    out = capsys.readouterr().out
    assert "waves: 24 readings seen, 4 forecast, 29 times" in out
    rows = [line.split() for line in out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["a", "b", "c", "all"]
    assert float(rows[3][1]) == pytest.approx(record["test"]["mae"], abs=6e-4)
