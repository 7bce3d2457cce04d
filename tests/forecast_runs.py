"""A small series and a small forecaster, for the tests of `recipes.forecast` and its commands."""

from pathlib import Path
from typing import Any

import numpy as np

from sparseflow.recipes.forecast import ForecastConfig

__all__ = ["TINY", "small_config", "write_series"]

TINY = {"d_model": 8, "n_layer": 1, "d_state": 2, "dt_rank": 2, "patch_len": 4, "stride": 2, "dropout": 0.2}


def write_series(folder: Path, readings: int = 160, name: str = "waves.csv") -> Path:
    """Write three noisy waves with dates."""
    t = np.arange(readings)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (readings, 3))
    values = np.stack([np.sin(t / 3), 5 + 2 * np.cos(t / 4), np.sin(t / 3 + 1)], 1) + noise
    rows = [f"day {i}," + ",".join(f"{v:.6f}" for v in row) for i, row in enumerate(values)]
    path = folder / name
    path.write_text("date,a,b,c\n" + "\n".join(rows) + "\n")
    return path


def small_config(folder: Path, **more: Any) -> ForecastConfig:
    """Return settings of a run of a second."""
    given: dict[str, Any] = {
        "dataset": "csv", "data": str(write_series(folder)), "seq_len": 12, "forecast_len": 4, "model_args": TINY,
        "epochs": 3, "batch_size": 16, "lr": 1e-2, "device": "cpu", "out": str(folder / "out"),
    }  # fmt: skip
    return ForecastConfig(**(given | more))
