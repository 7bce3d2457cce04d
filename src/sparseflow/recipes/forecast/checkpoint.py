"""A trained forecaster in one file: float32 weights, and in the header all that it takes to use them."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from sparseflow.data import Scaler
from sparseflow.errors import DataError
from sparseflow.ir.files import write_atomic
from sparseflow.nn.models.cmamba import ModelArgs, build_model
from sparseflow.recipes.forecast.config import ForecastConfig

__all__ = ["Forecaster", "load_forecaster", "save_forecaster"]

_FORMAT = "sparseflow-forecaster-1"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecaster:
    """A trained network and what belongs to it.

    Args:
        model: from scaled `[B, V, L]` to scaled `[B, V, F]`, in eval mode.
        args: its settings.
        columns: names of its V variates.
        targets: indices of those that it was trained to forecast.
        scaler: of the readings; None if they come as they are.
        config: of its training.
        record: what the training reached.
    """

    model: nn.Module
    args: ModelArgs
    columns: tuple[str, ...]
    targets: tuple[int, ...]
    scaler: Scaler | None
    config: ForecastConfig
    record: dict[str, Any]


def save_forecaster(path: str | Path, forecaster: Forecaster) -> Path:
    """Write a forecaster as safetensors, whole or not at all.

    Raises:
        DataError: it cannot be written.
    """
    scaler = forecaster.scaler
    header = {
        "args": forecaster.args.to_dict(),
        "columns": forecaster.columns,
        "targets": forecaster.targets,
        "scaler": None if scaler is None else [scaler.mean, scaler.std],
        "config": forecaster.config.to_dict(all=True),
        "record": forecaster.record,
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in forecaster.model.state_dict().items()}
    # One entry: safetensors writes several in an order that differs from run to run.
    return write_atomic(path, save(tensors, {_FORMAT: json.dumps(header)}))


def load_forecaster(path: str | os.PathLike[str]) -> Forecaster:
    """Read a forecaster, on the CPU.

    Raises:
        DataError: no such file, a damaged one, one of another kind, or weights that do not fit; names the key.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as f:
            meta = f.metadata() or {}
            tensors = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as e:
        raise DataError(f"cannot read {path}: {e}; make one with: sparseflow forecast train") from e
    if _FORMAT not in meta:
        raise DataError(f"{path} holds no forecaster; make one with: sparseflow forecast train")
    try:
        header = json.loads(meta[_FORMAT])
        args, scaler = ModelArgs.from_dict(header["args"]), header["scaler"]
        forecaster = Forecaster(
            model=build_model(args).eval(),
            args=args,
            columns=tuple(header["columns"]),
            targets=tuple(header["targets"]),
            scaler=None if scaler is None else Scaler(mean=tuple(scaler[0]), std=tuple(scaler[1])),
            config=ForecastConfig.from_dict(header["config"]),
            record=header["record"],
        )
    except (KeyError, ValueError, TypeError, IndexError) as e:
        raise DataError(f"the header of {path} is damaged: {e}") from e
    wanted = forecaster.model.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        if name not in tensors or name not in wanted:
            raise DataError(f"{path}: weight {name} is {'missing' if name in wanted else 'unexpected'}")
        found, want = tensors[name], wanted[name]
        if found.shape != want.shape or found.dtype != want.dtype:
            raise DataError(
                f"{path}: weight {name} is {found.dtype} {list(found.shape)}; expected {want.dtype} {list(want.shape)}"
            )
        if not bool(found.isfinite().all()):
            raise DataError(f"{path}: weight {name} holds a value that is not finite")
    forecaster.model.load_state_dict(tensors)
    return forecaster
