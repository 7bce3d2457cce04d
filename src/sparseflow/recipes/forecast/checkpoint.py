"""A trained forecaster in one file: the weights, and beside them all that it takes to use them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseflow.data import Scaler
from sparseflow.errors import DataError
from sparseflow.nn.models.cmamba import CMamba, load_model, save_weights
from sparseflow.recipes.forecast.config import ForecastConfig

__all__ = ["Forecaster", "load_forecaster", "save_forecaster", "shipped"]

_KIND = "forecaster"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecaster:
    """A trained network and what belongs to it.

    Args:
        model: from scaled `[B, V, L]` to scaled `[B, V, F]`, in eval mode.
        columns: names of its V variates.
        targets: indices of those that it was trained to forecast.
        scaler: of the readings; None if they come as they are.
        config: of its training.
        record: what the training reached.
    """

    model: CMamba
    columns: tuple[str, ...]
    targets: tuple[int, ...]
    scaler: Scaler | None
    config: ForecastConfig
    record: dict[str, Any]


def save_forecaster(path: str | Path, forecaster: Forecaster) -> Path:
    """Write a forecaster in a format of `nn.models.cmamba.save_weights`; the same one gives the same bytes.

    Raises:
        ConfigError: another ending.
        DataError: it cannot be written.
    """
    scaler = forecaster.scaler
    body = {
        "columns": forecaster.columns,
        "targets": forecaster.targets,
        "scaler": None if scaler is None else [scaler.mean, scaler.std],
        "config": forecaster.config.to_dict(all=True),
        "record": forecaster.record,
    }
    save_weights(path, forecaster.model, record={_KIND: body})
    return Path(path)


def shipped() -> tuple[str, ...]:
    """Return the names of the forecasters that ship, as "cmamba_etth1_96"."""
    return tuple(sorted(p.stem for p in _assets().glob("*.safetensors")))


def load_forecaster(path: str | Path) -> Forecaster:
    """Read a forecaster, on the CPU.

    Args:
        path: a file, or the name of a forecaster that ships (see `shipped`).

    Raises:
        ConfigError: another ending.
        DataError: no such file, a damaged one, one of another kind, or weights that do not fit; names the key.
    """
    if str(path) in shipped():
        path = _assets() / f"{path}.safetensors"
    path = Path(path)
    if not path.is_file():
        known = "".join(f" {name} ships;" for name in shipped())
        raise DataError(f"there is no forecaster {path};{known} make one with: sparseflow forecast train")
    model, record = load_model(path)
    if _KIND not in record:
        raise DataError(f"{path} holds a network without its task; make one with: sparseflow forecast train")
    try:
        body = record[_KIND]
        scaler = body["scaler"]
        found = Forecaster(
            model=model,
            columns=tuple(body["columns"]),
            targets=tuple(body["targets"]),
            scaler=None if scaler is None else Scaler(mean=tuple(scaler[0]), std=tuple(scaler[1])),
            config=ForecastConfig.from_dict(body["config"]),
            record=dict(body["record"]),
        )
    except (KeyError, ValueError, TypeError, IndexError) as e:
        raise DataError(f"what stands in {path} beside the weights is damaged: {e}") from e
    variates = model.args.num_channels
    scaled = variates if found.scaler is None else len(found.scaler.mean)
    if not (len(found.columns) == variates == scaled and set(found.targets) <= set(range(variates))):
        raise DataError(f"{path}: columns, targets or scaler do not fit the {variates} variates of the network")
    return found


def _assets() -> Path:
    return Path(__file__).parents[2] / "assets" / "forecast"
