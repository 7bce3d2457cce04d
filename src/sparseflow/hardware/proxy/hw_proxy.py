"""LayerHwProxy: latency, peak memory and power of layers and segments on a chip, with gradients to shares."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import DataError
from sparseflow.hardware.proxy.features import Chip, LayerTable, tabulate
from sparseflow.hardware.proxy.files import MEND, Fitted, read_fitted
from sparseflow.hardware.proxy.layer_spec import LayerSpec
from sparseflow.hardware.proxy.model import FIGURES
from sparseflow.ir import Target

__all__ = ["LayerHwProxy", "proxy_names"]

_FOLDER = Path(str(resources.files("sparseflow") / "assets" / "proxy"))


def proxy_names() -> tuple[str, ...]:
    """Return the names of the proxies that come with sparseflow."""
    return tuple(sorted(p.stem for p in _FOLDER.glob("*.safetensors")))


class LayerHwProxy:
    """Predicts layers on a chip from models that were fitted on one device.

    Utilisation is learned as a layer's own, on the device of the fit; a chip of other rates moves the bound. Memory
    is the same on any chip. Power keeps its share of what the chip may draw.

    Args:
        fitted: models of one device, one of each of `FIGURES`.

    Raises:
        DataError: a model is missing; a figure is never made up.
    """

    def __init__(self, fitted: Fitted) -> None:
        if missing := [f for f in FIGURES if f not in fitted.models]:
            raise DataError(f"the proxy has no model of {', '.join(missing)}; {MEND}, figure by figure or all at once")
        self.models = {f: fitted.models[f].eval().requires_grad_(False) for f in FIGURES}
        self.target, self.tdp_w, self.about = fitted.target, fitted.tdp_w, fitted.about

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

    @classmethod
    def load(cls, name_or_path: str | Path) -> "LayerHwProxy":
        """Return a proxy that comes with sparseflow, as "h200", or one of a `.safetensors` file.

        Raises:
            DataError: there is no such proxy, or the file is none; names it and what makes it.
        """
        path = Path(name_or_path)
        if path.suffix == ".safetensors":
            return cls(read_fitted(path))
        if str(name_or_path) not in proxy_names():
            known = ", ".join(proxy_names()) or "none"
            raise DataError(f"there are no weights of a proxy {str(name_or_path)!r}; shipped are {known}; {MEND}")
        return cls(read_fitted(_FOLDER / f"{name_or_path}.safetensors"))


def _learned(layer: LayerSpec) -> bool:
    return any(
        isinstance(k, torch.Tensor) for k in (layer.keep_token, layer.keep_head, layer.keep_channel, layer.keep_block)
    )
