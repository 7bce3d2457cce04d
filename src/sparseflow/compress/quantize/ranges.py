"""What values a forecaster's tensors take on real windows: ranges, and samples to choose scales by."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.cmamba import CMamba
from sparseflow.nn.models.cmamba.lowering import parts_of

__all__ = ["Range", "observe"]

_SAMPLES = 16384
STREAM = "stream"


@dataclass(slots=True)
class Range:
    """What one tensor was seen to hold.

    Args:
        low: smallest value.
        high: largest value.
        samples: evenly spread values of each batch.
    """

    low: float = float("inf")
    high: float = float("-inf")
    samples: list[NDArray[np.float64]] = field(default_factory=list)

    @property
    def largest(self) -> float:
        """Largest magnitude, 0 if nothing was seen."""
        return max(-self.low, self.high, 0.0)

    def see(self, values: Tensor) -> None:
        """Take note of a batch.

        Raises:
            DataError: NaN or an infinity.
        """
        flat = values.detach().reshape(-1).double()
        if not flat.numel():
            return
        low, high = (float(v) for v in flat.aminmax())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise DataError("calibration met a NaN or an infinity; mend the windows or the weights")
        self.low, self.high = min(self.low, low), max(self.high, high)
        step = max(1, flat.numel() // _SAMPLES)
        # A stride that shares no factor with the widths visits all channels.
        self.samples.append(flat[:: step | 1].numpy().copy())

    def values(self) -> NDArray[np.float64]:
        """Return the samples."""
        return np.concatenate(self.samples) if self.samples else np.zeros(0)


@torch.no_grad()
def observe(model: CMamba, batches: Iterable[Tensor]) -> dict[str, Range]:
    """Return the ranges of all tensors that a `QSpec` gives a scale to, by name.

    Args:
        model: a float network of the "official" variant; left as it is.
        batches: readings `[B, V, L]`, scaled as for the network.

    Returns:
        By name; "stream" is the whole residual path, "….scan.w" is Δ·x, "….scan.h" the state.

    Raises:
        ConfigError: no batch, another variant, or another number system.
        DataError: a value is not finite.
    """
    if model.args.variant != "official" or model.quant_mode != "fp32":
        raise ConfigError(
            f"cannot calibrate a {model.quant_mode} network of the variant {model.args.variant!r}; "
            "give a float one of the official variant"
        )
    watch = _Watch(model)
    training, count = model.training, 0
    hooks = [m.register_forward_hook(watch.hook(n), with_kwargs=True) for n, m in model.named_modules() if n]
    try:
        model.eval()
        for x in batches:
            model(x)
            count += 1
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not count:
        raise ConfigError("calibration got no batch; give at least one")
    return watch.found


class _Watch:
    def __init__(self, model: CMamba) -> None:
        self.args = model.args
        self.found: dict[str, Range] = {}

    def see(self, name: str, values: Tensor) -> None:
        self.found.setdefault(name, Range()).see(values)

    def hook(self, name: str) -> Any:
        last = name.rsplit(".", 1)[-1]

        def watch(module: nn.Module, given: tuple[Any, ...], kwargs: Any, out: Any) -> None:
            del kwargs
            if last in ("value_embedding", "position_embedding", "out_proj", "gate", "residual"):
                self.see(STREAM, out)
            elif name == "standardize":
                self.see(name, out[0])
            elif last in ("in_proj", "x_proj"):
                at = 0
                for part, width in parts_of(self.args, last):
                    self.see(f"{name}.{part}", out[..., at : at + width])
                    at += width
            elif last == "scan":
                self.scan(name, given, out)
            elif last == "pool":
                self.see(f"{name}.mean", out[0])
                self.see(f"{name}.max", out[1])
            elif name == "encoder.act":
                self.see(f"{name}.in", given[0])
                self.see(name, out)
            elif last in ("norm", "act", "dt_proj", "add_scale", "add_shift", "0", "1") and isinstance(out, Tensor):
                self.see(name, out)

        return watch

    def scan(self, name: str, given: tuple[Any, ...], out: Tensor) -> None:
        x, dt, a_log, b, c, d, z = (v.double() for v in given)
        delta, rate = functional.softplus(dt), a_log.exp()
        pushed = delta * x
        h = x.new_zeros(x.shape[0], x.shape[2], b.shape[-1])
        for k in range(x.shape[1]):
            h = (-delta[:, k, :, None] * rate).exp() * h + pushed[:, k, :, None] * b[:, k, None, :]
            self.see(f"{name}.h", h)
            self.see(f"{name}.y", (h * c[:, k, None, :]).sum(-1) + d[:, k] * x[:, k])
        self.see(f"{name}.w", pushed)
        self.see(f"{name}.z", functional.silu(z))
        self.see(name, out)
