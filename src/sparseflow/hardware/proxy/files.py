"""The file of fitted models: half-precision weights, and what they were fitted on."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sparseflow.errors import ConfigError, DataError
from sparseflow.hardware.proxy.features import FEATURES
from sparseflow.hardware.proxy.model import LayerProxyModel
from sparseflow.ir import Target

__all__ = ["MEND", "Fitted", "read_fitted", "write_fitted"]

SCHEMA = 1
MEND = "make it with: sparseflow codesign measure, then sparseflow codesign fit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """Models of one device.

    Args:
        models: by figure; not all need be there.
        target: the device of the fit.
        tdp_w: what that device may draw.
        about: how each was fitted, for people.
    """

    models: Mapping[str, LayerProxyModel]
    target: Target
    tdp_w: float
    about: Mapping[str, Any] = field(default_factory=dict)


def write_fitted(path: str | Path, fitted: Fitted) -> None:
    """Write models; matrices in half precision.

    Raises:
        DataError: the file cannot be written.
    """
    tensors = {
        f"{figure}.{name}": value.half() if value.ndim > 1 else value.clone()
        for figure, model in fitted.models.items()
        for name, value in model.state_dict().items()
    }
    header = {
        "schema": SCHEMA,
        "features": FEATURES,
        "models": {
            figure: {"members": m.weights[1].shape[0], "hidden": m.weights[1].shape[1], "form": m.form}
            for figure, m in fitted.models.items()
        },
        "tdp_w": fitted.tdp_w,
        "target": asdict(fitted.target),
        "about": dict(fitted.about),
    }
    try:
        save_file(tensors, path, metadata={"proxy": json.dumps(header)})
        # The library writes a file for the owner alone.
        Path(path).chmod(0o644)
    except (OSError, SafetensorError) as e:
        raise DataError(f"cannot write the proxy {path}: {e}; name a folder that exists") from e


def read_fitted(path: str | Path) -> Fitted:
    """Return the models of a file.

    Raises:
        DataError: there is no such file, or it is none of models for these features; names it and what makes it.
    """
    if not Path(path).is_file():
        raise DataError(f"there are no weights of a proxy at {path}; {MEND}")
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["proxy"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header["schema"] != SCHEMA or tuple(header["features"]) != FEATURES:
            raise DataError(f"{path} was fitted on other features than this version reads; {MEND}")
        models = {}
        for figure, sizes in header["models"].items():
            models[figure] = LayerProxyModel(figure, **sizes)
            own = {k.partition(".")[2]: v.float() for k, v in tensors.items() if k.startswith(f"{figure}.")}
            models[figure].load_state_dict(own)
        target = Target(**{**header["target"], "features": tuple(header["target"]["features"])})
        return Fitted(models=models, target=target, tdp_w=header["tdp_w"], about=header["about"])
    except (SafetensorError, ConfigError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as e:
        raise DataError(f"{path} is no proxy: {e}; {MEND}") from e
