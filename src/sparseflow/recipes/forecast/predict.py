"""Forecast what comes after the last readings of a file, in their own units, or after windows in a batch."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparseflow.data import csv_series
from sparseflow.errors import DataError
from sparseflow.nn.models.cmamba import load_npz_input
from sparseflow.recipes.device import device_of
from sparseflow.recipes.forecast.checkpoint import Forecaster, load_forecaster

__all__ = ["predict", "predict_windows"]


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
        raise DataError(f"{checkpoint} was trained on windows that come as they are; give them by --input")
    series = csv_series(csv, missing=missing).select(found.columns)
    length = found.model.args.seq_len
    if len(series) < length:
        raise DataError(f"{csv} holds {len(series)} readings; the network sees {length}")
    ahead = _ahead(found, torch.from_numpy(series.values[-length:].T.copy())[None], device)
    return {
        "columns": [found.columns[i] for i in found.targets],
        "after": None if series.dates is None else series.dates[-1],
        "values": ahead[0, list(found.targets)].T.tolist(),
    }


def predict_windows(checkpoint: str | Path, file: str | Path, *, device: str = "auto") -> Tensor:
    """Return the forecast `[B, V, F]` after windows `[B, V, L]`, in their own units.

    Args:
        checkpoint: file of `train_forecaster`.
        file: .npz with the windows as `x`, as for `nn.models.cmamba.load_npz_input`.
        device: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: another ending.
        DataError: unreadable, or windows of another V or L than the network's.
    """
    return _ahead(load_forecaster(checkpoint), load_npz_input(file).double(), device).float()


@torch.no_grad()
def _ahead(found: Forecaster, x: Tensor, device: str) -> Tensor:
    """Return the forecast in float64 and in units of `x`, which is scaled as in the training."""
    if x.shape[1:] != (found.model.args.num_channels, found.model.args.seq_len):
        raise DataError(
            f"windows are {list(x.shape)}; the network sees [B, {found.model.args.num_channels}, "
            f"{found.model.args.seq_len}]"
        )
    if found.scaler is not None:
        x = torch.from_numpy(found.scaler.scale(x.mT.numpy())).mT
    where = device_of(device)
    seen = torch.from_numpy(np.ascontiguousarray(x.numpy(), np.float32)).to(where)
    ahead: Tensor = found.model.to(where)(seen).double().cpu()
    return ahead if found.scaler is None else torch.from_numpy(found.scaler.unscale(ahead.mT.numpy())).mT
