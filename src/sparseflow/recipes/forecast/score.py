"""Errors of a forecaster over all windows of a split."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from sparseflow.errors import DataError, MeasurementError
from sparseflow.recipes.forecast.dataset import Pool

__all__ = ["Scores", "score"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Errors in units of the training part's deviations, as all papers tell them.

    Args:
        mse: mean squared error over windows, targets and readings.
        mae: mean absolute error, likewise.
        windows: how many.
    """

    mse: float
    mae: float
    windows: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields."""
        return asdict(self)


@torch.no_grad()
def score(model: nn.Module, pool: Pool, *, targets: tuple[int, ...] | None = None, batch_size: int = 512) -> Scores:
    """Return the errors over all windows, none left out, summed in float64.

    Args:
        model: from `[B, V, L]` to `[B, V, F]`; scored in eval mode and left in the mode that it was in.
        pool: windows, on the device of the model.
        targets: variates that count; None for all.
        batch_size: windows a call.

    Raises:
        DataError: no window.
        MeasurementError: the errors are not finite.
    """
    if not len(pool):
        raise DataError("no window to score a forecast on")
    training = model.training
    model.eval()
    device = next(model.parameters()).device
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    count = 0
    for index in torch.split(torch.arange(len(pool), device=device), batch_size):
        x, y = pool.take(index)
        error = model(x).float() - y
        if targets is not None:
            error = error[:, list(targets)]
        error = error.double()
        sums += torch.stack([error.square().sum(), error.abs().sum()])
        count += error.numel()
    model.train(training)
    mse, mae = (sums / count).tolist()
    if not (mse < float("inf") and mae < float("inf")):
        raise MeasurementError(f"the forecast is not finite: MSE {mse}, MAE {mae}")
    return Scores(mse=mse, mae=mae, windows=len(pool))
