"""Parity with the published forecaster: its state dict goes in, and the forecasts are those of its equations."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.nn.models.cmamba import CMamba, ModelArgs, build_model, load_weights
from sparseflow.recipes.checks import Check
from sparseflow.recipes.device import device_of
from sparseflow.recipes.forecast.bench.rival import forecast, one_after_the_other
from sparseflow.recipes.forecast.results import HORIZONS

__all__ = ["SERIES", "parity", "published_state"]

SERIES = (1, 2, 3, 4, 5, 6, 7, 7, 7, 8, 11, 16, 21, 24, 33, 64, 100, 137, 200, 321)
"""Series of each network: from one, whose channel MLP has no hidden unit, to the 321 of Electricity."""

_AGREE = 1e-5
_POSITION = "patch_embedding.position_embedding.pe"
_POSITIONS = 5000


def published_state(args: ModelArgs, seed: int) -> dict[str, Tensor]:
    """Return random weights under the names of the published code, with the table of 5,000 positions that it keeps.

    Args:
        args: sizes of an "official" network.
        seed: of the weights; norms and decays are random too, and all as large as trained ones are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(args)
        state = {}
        for name, weight in model.named_parameters():
            size = weight.std() if weight.ndim > 1 and weight.numel() > 1 else 0.05
            state[name] = weight.detach() + torch.randn(weight.shape) * size
    rates = torch.exp(torch.arange(0, args.d_model, 2).float() * -(math.log(10000.0) / args.d_model))
    angles = torch.arange(_POSITIONS).float()[:, None] * rates
    state[_POSITION] = torch.stack([angles.sin(), angles.cos()], -1).reshape(1, _POSITIONS, -1)[..., : args.d_model]
    return {name: tensor.detach() for name, tensor in state.items()}


def parity(folder: Path, device: str = "cpu") -> tuple[list[Check], list[dict[str, Any]]]:
    """Load 20 published state dicts strictly, and hold the forecasts against the equations in plain torch.

    Args:
        folder: for the files.
        device: of networks and equations.

    Raises:
        ConfigError: no such device.
    """
    where = device_of(device)
    rows = []
    for seed, v in enumerate(SERIES):
        ahead, layers, reduction = HORIZONS[seed % 4], 3 + seed % 2, (2, 4)[seed % 2]
        args = ModelArgs.paper(v, ahead, n_layer=layers, reduction_ratio=reduction)
        state, path = published_state(args, seed), folder / f"{seed}.pt"
        torch.save(state, path)
        model = CMamba(args)
        loaded = load_weights(model, path).loaded
        x = torch.randn(1 + (v < 30), v, args.seq_len, generator=torch.Generator().manual_seed(seed)).to(where)
        with torch.no_grad():
            found = model.to(where).eval()(x)
            apart, apart_true = (_apart(found, args, state, x.to(dtype)) for dtype in (torch.float32, torch.float64))
        row = {"seed": seed, "series": v, "forecast_len": ahead, "layers": layers, "tensors": len(loaded)}
        rows.append({**row, "difference": apart, "difference_float64": apart_true})
    what = f"{len(rows)} networks of {SERIES[0]} to {SERIES[-1]} series, largest difference from the equations in"
    checks = [
        Check(show="2", name=f"{what} {name}", value=max(row[key] for row in rows), unit="absolute", rule="<=",
              bound=_AGREE)
        for key, name in (("difference", "float32"), ("difference_float64", "float64"))
    ]  # fmt: skip
    return checks, rows


def _apart(found: Tensor, args: ModelArgs, state: dict[str, Tensor], x: Tensor) -> float:
    weights = {name: tensor.to(x) for name, tensor in state.items()}
    weights[_POSITION] = weights[_POSITION][0, : args.num_patches]
    return float((found - forecast(args, weights, x, one_after_the_other)).abs().max())
