"""A forecaster in integers as a pack for an FPGA: bytes, golden vectors, HLS C++ and Verilog."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.bundle import write_bundle
from sparseflow.ir.qspec import QSpec
from sparseflow.recipes.forecast.checkpoint import Forecaster
from sparseflow.recipes.forecast.dataset import open_task
from sparseflow.recipes.forecast.quantize import load_integers

__all__ = ["ExportConfig", "export_forecaster"]

_MULTIPLE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What becomes a pack.

    Args:
        checkpoint: a `forecaster.safetensors` that `sparseflow forecast quantize` wrote.
        data: file or folder of the data set; None for where it lay in the training.
        windows: of the test part, evenly spread, that become golden vectors.
        out: folder of the pack.

    Raises:
        ConfigError: no window.
    """

    checkpoint: str
    data: str | None = None
    windows: int = 2
    out: str = "outputs/forecast_pack"

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.windows < 1:
            raise ConfigError(f"windows is {self.windows}; expected at least 1")


def export_forecaster(config: ExportConfig) -> dict[str, Any]:
    """Write a forecaster's pack.

    Returns:
        `files` written, the `digest` of the QSpec, `bytes` of `weights.bin`, and how long the forecast is, also rounded
        up to the rows of the array.

    Raises:
        DataError: the checkpoint was never quantised, or it or the data cannot be read.
        ConfigError: its specification is of another version.
    """
    found = load_integers(config.checkpoint)
    trained = found.forecaster
    settings = trained.config if config.data is None else replace(trained.config, data=config.data)
    pool = open_task(settings, trained.scaler).part("test")
    count = min(config.windows, len(pool))
    windows, _ = pool.take(torch.linspace(0, len(pool) - 1, count).round().long())
    files = write_bundle(config.out, _noted(found.spec, trained), found.arrays, found.reference.taps(windows))
    length = trained.model.args.forecast_len
    return {
        "files": [str(path) for path in files],
        "digest": found.spec.digest,
        "bytes": (Path(config.out) / "weights.bin").stat().st_size,
        "forecast_len": length,
        "padded_forecast_len": -(-length // _MULTIPLE) * _MULTIPLE,
    }


def _noted(spec: QSpec, trained: Forecaster) -> QSpec:
    """Note by which means and deviations readings were scaled, for programs that have nothing but the pack."""
    if trained.scaler is None:
        return spec
    mean, std = list(trained.scaler.mean), list(trained.scaler.std)
    return replace(spec, note={**spec.note, "readings": {"columns": list(trained.columns), "mean": mean, "std": std}})
