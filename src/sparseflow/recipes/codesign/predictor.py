"""What layers cost on chips: a fitted proxy by name or file, or bounds of the chip alone."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseflow.hardware.chiplet import ChipletType
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.hardware.system import Predictor

__all__ = ["Bounds", "load_predictor"]

_MB = 1e6


class Bounds:
    """Costs from the roofline of a chip; nothing is fitted, so figures compare designs and predict no machine.

    latency = max(flops / (u·peak), bytes / (u·bandwidth)) + launch; power = TDP·(idle + (1 − idle)·ū), ū the mean of
    the shares of peak and bandwidth that are reached meanwhile.

    Args:
        share: u, of peak and bandwidth that layers reach at best; assumed.
        idle: share of the TDP that a waiting chip draws; assumed.
        launch_ms: before each layer; assumed.
    """

    def __init__(self, *, share: float = 0.6, idle: float = 0.1, launch_ms: float = 2e-3) -> None:
        self.share, self.idle, self.launch_ms = share, idle, launch_ms

    def predict_layers_batch(self, layers: Sequence[LayerSpec], chip: ChipletType) -> dict[str, Tensor]:
        """Return `lat_ms`, `mem_mb` and `power_w`, each `[n]`, with gradients to shares that are tensors."""
        flops, moved, held = (
            torch.stack([torch.as_tensor(getattr(x, name), dtype=torch.float64) for x in layers])
            for name in ("flops", "bytes", "activation_bytes")
        )
        weights = torch.stack([torch.as_tensor(x.weight_bytes, dtype=torch.float64) for x in layers])
        compute, memory = flops / chip.peak_flops_per_s * 1e3, moved / chip.peak_bw_bytes_per_s * 1e3
        lat = torch.maximum(compute, memory) / self.share + self.launch_ms
        busy = 0.5 * (compute + memory) / lat
        return {
            "lat_ms": lat,
            "mem_mb": (weights + held) / _MB,
            "power_w": chip.tdp_w * (self.idle + (1 - self.idle) * busy),
        }


def load_predictor(name: str) -> Predictor:
    """Return what `proxy` of a configuration names: "roofline", or a fitted proxy by name or file.

    Raises:
        DataError: the weights are missing or damaged; says which command makes them.
    """
    if name == "roofline":
        return Bounds()
    from sparseflow.hardware.proxy.hw_proxy import LayerHwProxy

    found: Predictor = LayerHwProxy.load(name)
    return found
