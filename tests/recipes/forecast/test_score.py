import numpy as np
import pytest
import torch
from torch import nn

from sparseflow.data import Pairs, Windows
from sparseflow.errors import MeasurementError
from sparseflow.recipes.forecast.score import errors, score


class Last(nn.Module):
    """Says the last reading for ever."""

    def __init__(self, f, factor=1.0):
        super().__init__()
        self.f, self.factor = f, nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x[..., -1:].expand(*x.shape[:2], self.f)


@pytest.mark.parametrize("batch", [1, 7, 100])
@pytest.mark.parametrize("targets", [None, (2, 0)])
def test_all_windows_count_as_in_a_plain_loop(batch, targets):
    values = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    pool = Windows(values, seq_len=5, forecast_len=4)
    model = Last(4).train()
    found = score(model, pool, targets=targets, batch_size=batch)
    chosen = list(targets or (0, 1, 2))
    errors = np.stack([(values[t + 5 : t + 9] - values[t + 4])[:, chosen].double().numpy() for t in range(32)])
    assert found.windows == 32
    assert found.mse == pytest.approx((errors**2).mean(), rel=1e-6)
    assert found.mae == pytest.approx(np.abs(errors).mean(), rel=1e-6)
    assert model.training
    assert found.to_dict() == {"mse": found.mse, "mae": found.mae, "windows": 32}


def test_errors_are_told_by_variate_and_distance():
    pool = Pairs(x=torch.zeros(3, 2, 5), y=torch.tensor([[[1.0, 2.0], [3.0, -4.0]]]).expand(3, 2, 2))
    found = errors(lambda x: torch.zeros(len(x), 2, 2), pool, batch_size=2)
    assert found.tolist() == [[[1.0, 4.0], [9.0, 16.0]], [[1.0, 2.0], [3.0, 4.0]]]
    assert errors(lambda x: torch.zeros(len(x), 2, 2), pool, targets=(1,)).tolist() == [[[9.0, 16.0]], [[3.0, 4.0]]]


def test_a_forecast_that_is_not_finite_is_no_score():
    pool = Pairs(x=torch.ones(2, 1, 3), y=torch.ones(2, 1, 4))
    with pytest.raises(MeasurementError, match="not finite"):
        score(Last(4, float("nan")), pool)


def test_dropout_is_off():
    pool = Pairs(x=torch.ones(50, 1, 3), y=torch.ones(50, 1, 1))
    model = nn.Sequential(Last(1), nn.Dropout(0.9)).train()
    assert score(model, pool).mse == 0
