"""LayerHwProxy: latency, peak memory and power of layers and segments on a chip, with gradients to shares."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparseflow.errors import ConfigError, DataError
from sparseflow.hardware.proxy.features import FEATURES, Chip, LayerTable, tabulate
from sparseflow.hardware.proxy.layer_spec import LayerSpec
from sparseflow.hardware.proxy.model import FIGURES, LayerProxyModel
from sparseflow.ir import Target

__all__ = ["LayerHwProxy", "proxy_names"]

SCHEMA = 1
_FOLDER = Path(str(resources.files("sparseflow") / "assets" / "proxy"))


def proxy_names() -> tuple[str, ...]:
    """Return the names of the proxies that come with sparseflow."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.safetensors")))


class LayerHwProxy:
    """Predicts layers on a chip from models that were fitted on one device.

    Utilisation is learned as a layer's own, on the device of the fit; a chip of other rates moves the bound. Memory
    is the same on any chip. Power keeps its share of what the chip may draw.

    Args:
        models: one of each of `FIGURES`, by figure.
        target: the device of the fit.
        tdp_w: what that device may draw.
        about: how it was fitted, for people.

    Raises:
        ConfigError: a model is missing.
    """

    def __init__(
        self,
        models: Mapping[str, LayerProxyModel],
        target: Target,
        tdp_w: float,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        if missing := [f for f in FIGURES if f not in models]:
            raise ConfigError(f"a proxy needs a model of each of {', '.join(FIGURES)}; {', '.join(missing)} is missing")
        self.models = {f: models[f].eval().requires_grad_(False) for f in FIGURES}
        self.target, self.tdp_w, self.about = target, tdp_w, dict(about or {})

    def predict_layer(self, layer: LayerSpec, chip: Chip | Target | None = None) -> dict[str, Any]:
        """Return `lat_ms`, `mem_mb` and `power_w` of one layer: numbers, or tensors where its shares are tensors.

        Args:
            layer: what runs.
            chip: where; None for the device of the fit.
        """
        found = {name: value[0] for name, value in self.predict_layers_batch([layer], chip).items()}
        return found if _learned(layer) else {name: float(value) for name, value in found.items()}

    def predict_layers_batch(self, layers: Sequence[LayerSpec], chip: Chip | Target | None = None) -> dict[str, Tensor]:
        """Return `lat_ms`, `mem_mb` and `power_w` of many layers, each `[n]`, with gradients to their shares.

        Args:
            layers: at least one.
            chip: where; None for the device of the fit.

        Raises:
            ConfigError: no layer.
        """
        table = self._table(layers, chip)
        found = {name: model(table) for name, model in self.models.items()}
        own_w = self.tdp_w if chip is None or isinstance(chip, Target) else getattr(chip, "tdp_w", self.tdp_w)
        return {**found, "power_w": found["power_w"] * (own_w / self.tdp_w)}

    def predict_segment(self, layers: Sequence[LayerSpec], chip: Chip | Target | None = None) -> dict[str, Any]:
        """Return the figures of layers that run one after the other.

        lat_ms = Σ lat; mem_mb = Σ weights + the largest memory that a layer holds beside its weights;
        power_w = Σ (power·lat) / Σ lat.

        Args:
            layers: at least one.
            chip: where; None for the device of the fit.
        """
        table = self._table(layers, chip)
        each = self.predict_layers_batch(layers, chip)
        weights = table.weight_mb.float() * table.keep.float()
        lat_ms = each["lat_ms"].sum()
        found = {
            "lat_ms": lat_ms,
            "mem_mb": weights.sum() + (each["mem_mb"] - weights).clamp(min=0.0).max(),
            "power_w": (each["power_w"] * each["lat_ms"]).sum() / lat_ms.clamp(min=1e-12),
        }
        return found if any(map(_learned, layers)) else {name: float(value) for name, value in found.items()}

    def spreads(self, layers: Sequence[LayerSpec], chip: Chip | Target | None = None) -> dict[str, Tensor]:
        """Return factors `[n]` for each figure: nine layers in ten lie between figure / f and figure · f."""
        table = self._table(layers, chip)
        return {name: model.spread(table) for name, model in self.models.items()}

    def _table(self, layers: Sequence[LayerSpec], chip: Chip | Target | None) -> LayerTable:
        own = tabulate(layers, self.target)
        return own if chip is None else own._replace(roofline_ms=tabulate(layers, chip).roofline_ms)

    def save(self, path: str | Path) -> None:
        """Write the models, in half precision, and what they were fitted on.

        Raises:
            DataError: the file cannot be written.
        """
        tensors = {
            f"{figure}.{name}": value.half() if value.ndim > 1 else value.clone()
            for figure, model in self.models.items()
            for name, value in model.state_dict().items()
        }
        shape = self.models[FIGURES[0]].weights[1].shape
        header = {
            "schema": SCHEMA, "features": FEATURES, "members": shape[0], "hidden": shape[1], "tdp_w": self.tdp_w,
            "target": asdict(self.target), "about": self.about,
        }  # fmt: skip
        try:
            save_file(tensors, path, metadata={"proxy": json.dumps(header)})
        except OSError as e:
            raise DataError(f"cannot write the proxy {path}: {e}; name a folder that exists") from e

    @classmethod
    def load(cls, name_or_path: str | Path) -> "LayerHwProxy":
        """Return a proxy that comes with sparseflow, as "h200", or one of a file.

        Raises:
            DataError: there is no such proxy, or the file is none; names it and what makes it.
        """
        path = Path(name_or_path)
        if path.suffix != ".safetensors":
            path = _FOLDER / f"{name_or_path}.safetensors"
        mend = "make it with: sparseflow codesign measure, then sparseflow codesign fit"
        if not path.is_file():
            known = ", ".join(proxy_names()) or "none"
            raise DataError(f"there are no weights of a proxy at {path}; shipped are {known}; {mend}")
        try:
            with safe_open(path, "pt") as file:
                header = json.loads(file.metadata()["proxy"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            if header["schema"] != SCHEMA or tuple(header["features"]) != FEATURES:
                raise DataError(f"{path} was fitted on other features than this version reads; {mend}")
            models = {}
            for figure in FIGURES:
                models[figure] = LayerProxyModel(figure, members=header["members"], hidden=header["hidden"])
                own = {k.partition(".")[2]: v.float() for k, v in tensors.items() if k.startswith(f"{figure}.")}
                models[figure].load_state_dict(own)
            target = header["target"] | {"features": tuple(header["target"]["features"])}
            return cls(models, Target(**target), header["tdp_w"], header["about"])
        except (SafetensorError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as e:
            raise DataError(f"{path} is no proxy: {e}; {mend}") from e


def _learned(layer: LayerSpec) -> bool:
    return any(
        isinstance(k, torch.Tensor) for k in (layer.keep_token, layer.keep_head, layer.keep_channel, layer.keep_block)
    )
