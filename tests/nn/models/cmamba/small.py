"""A small network with weights as large as trained ones, its readings, and its integers."""

import functools

import torch
from torch import Tensor

from sparseflow.compress.quantize.forecaster import ForecastBits, calibrate_forecaster
from sparseflow.ir.qspec import QSpec
from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.nn.models.cmamba.lowering import Arrays, lower

SMALL = ModelArgs(
    d_model=16, n_layer=2, seq_len=32, d_state=4, expand=1, dt_rank=4, bias=True, num_channels=3, patch_len=8, stride=4,
    forecast_len=8, reduction_ratio=1,
)  # fmt: skip


def readings(windows: int = 6, seed: int = 1) -> Tensor:
    """Random walks, as series are."""
    steps = torch.randn(windows, SMALL.num_channels, SMALL.seq_len, generator=torch.Generator().manual_seed(seed))
    return (0.4 * steps).cumsum(-1)


@functools.cache
def network(seed: int = 0) -> CMamba:
    torch.manual_seed(seed)
    model = CMamba(SMALL).eval()
    with torch.no_grad():
        for layer in model.encoder.layers:
            layer.norm.weight.normal_(1.0, 0.3)
            layer.mixer.x_proj.weight.mul_(2.0)
    return model


@functools.cache
def spec(bits: ForecastBits | None = None, seed: int = 0) -> QSpec:
    return calibrate_forecaster(network(seed), [readings(16), readings(16, 2)], bits)


def weights(seed: int = 0) -> dict[str, object]:
    return {name: p.detach().numpy() for name, p in network(seed).named_parameters()}


def arrays(bits: ForecastBits | None = None, seed: int = 0) -> Arrays:
    return lower(SMALL, weights(seed), spec(bits, seed))  # type: ignore[arg-type]
