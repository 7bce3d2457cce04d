"""Forecast what comes after the last readings of a file, in their own units."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparseflow.data import csv_series
from sparseflow.errors import DataError
from sparseflow.recipes.device import device_of
from sparseflow.recipes.forecast.checkpoint import load_forecaster

__all__ = ["predict"]


def predict(
    checkpoint: str | Path,
    csv: str | Path,
    *,
    missing: float | None = None,
    device: str = "auto",
) -> dict[str, Any]:
    """Return the F readings after the end of a file.

    Args:
        checkpoint: file of `train_forecaster`, trained on a series.
        csv: readings; the columns of the training by name, the last L rows are seen.
        missing: as for `sparseflow.data.csv_series`.
        device: "auto", "cpu" or "cuda".

    Returns:
        `columns`, those that the network was trained to forecast; `values`, F rows of them in the units of the file;
        `after`, the date of the last row, if there are dates.

    Raises:
        ConfigError: a column is missing.
        DataError: unreadable, fewer than L rows, or a checkpoint without scaler.
    """
    found = load_forecaster(checkpoint)
    if found.scaler is None:
        raise DataError(f"{checkpoint} was trained on windows that come as they are; it has no units to forecast in")
    series = csv_series(csv, missing=missing).select(found.columns)
    if len(series) < found.model.args.seq_len:
        raise DataError(f"{csv} holds {len(series)} readings; the network sees {found.model.args.seq_len}")
    where = device_of(device)
    seen = found.scaler.scale(series.values[-found.model.args.seq_len :]).astype(np.float32)
    with torch.no_grad():
        ahead = found.model.to(where)(torch.from_numpy(seen.T.copy())[None].to(where))[0]
    values = found.scaler.unscale(ahead.T.double().cpu().numpy())[:, list(found.targets)]
    return {
        "columns": [found.columns[i] for i in found.targets],
        "after": None if series.dates is None else series.dates[-1],
        "values": values.tolist(),
    }
