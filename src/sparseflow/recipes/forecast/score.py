"""Errors of a forecaster over all windows of a split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import DataError, MeasurementError
from sparseflow.recipes.forecast.dataset import Pool

__all__ = ["Scores", "errors", "score"]


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
def errors(
    forecast: Callable[[Tensor], Tensor],
    pool: Pool,
    *,
    targets: tuple[int, ...] | None = None,
    batch_size: int = 512,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Return the mean squared and the mean absolute error `[2, V, F]` of each target and distance, in float64.

    Args:
        forecast: from `[B, V, L]` to `[B, V, F]`.
        pool: windows; all of them count.
        targets: variates that count; None for all.
        batch_size: windows a call.
        device: where the windows are.

    Raises:
        DataError: no window.
    """
    if not len(pool):
        raise DataError("no window to score a forecast on")
    sums = torch.zeros((), dtype=torch.float64, device=device)
    for index in torch.split(torch.arange(len(pool), device=device), batch_size):
        x, y = pool.take(index)
        error = forecast(x).float() - y
        if targets is not None:
            error = error[:, list(targets)]
        error = error.double()
        sums = sums + torch.stack([error.square().sum(0), error.abs().sum(0)])
    return sums / len(pool)


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
    training = model.training
    model.eval()
    found = errors(model, pool, targets=targets, batch_size=batch_size, device=next(model.parameters()).device)
    model.train(training)
    mse, mae = found.mean((1, 2)).tolist()
    if not (mse < float("inf") and mae < float("inf")):
        raise MeasurementError(f"the forecast is not finite: MSE {mse}, MAE {mae}")
    return Scores(mse=mse, mae=mae, windows=len(pool))
