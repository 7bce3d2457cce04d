import numpy as np
import pytest
import torch

from sparseflow.data import Scaler, Series, Windows, ends_by_share, split_series
from sparseflow.errors import ConfigError, DataError


def series(readings=40, variates=3):
    values = np.random.default_rng(0).normal(5.0, 3.0, (readings, variates))
    return Series(name="s", values=values, columns=tuple("abcdefg"[:variates]))


def test_windows_are_those_of_a_plain_loop():
    values = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    w = Windows(values, seq_len=5, forecast_len=2)
    assert (len(w), w.variates) == (14, 3)
    x, y = w.take(torch.tensor([0, 13, 4]))
    assert (x.shape, y.shape) == ((3, 3, 5), (3, 3, 2))
    for i, t in enumerate((0, 13, 4)):
        assert torch.equal(x[i], values[t : t + 5].T)
        assert torch.equal(y[i], values[t + 5 : t + 7].T)
    assert len(w.to("cpu")) == 14


def test_one_window_is_the_least():
    assert len(Windows(torch.zeros(7, 1), seq_len=5, forecast_len=2)) == 1
    with pytest.raises(DataError, match="no window"):
        Windows(torch.zeros(6, 1), seq_len=5, forecast_len=2)
    for bad in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError):
            Windows(torch.zeros(6, 1), seq_len=bad[0], forecast_len=bad[1])


def test_val_and_test_begin_where_the_part_before_ends():
    s = series()
    parts = split_series(s, seq_len=4, forecast_len=2, ends=(20, 28, 40))
    assert (len(parts.train), len(parts.val), len(parts.test)) == (15, 7, 11)
    want = parts.scaler.scale(s.values).astype(np.float32)
    for part, first in ((parts.train, 4), (parts.val, 20), (parts.test, 28)):
        _, y = part.take(torch.tensor([0]))
        assert np.array_equal(y[0].numpy(), want[first : first + 2].T)
    _, y = parts.test.take(torch.tensor([len(parts.test) - 1]))
    assert np.array_equal(y[0].numpy(), want[38:40].T)


def test_only_the_training_part_scales():
    s = series()
    parts = split_series(s, seq_len=4, forecast_len=2, ends=(20, 28, 40))
    assert np.allclose(parts.scaler.mean, s.values[:20].mean(0))
    assert np.allclose(parts.scaler.std, s.values[:20].std(0))
    changed = Series(name="s", values=np.vstack([s.values[:20], s.values[20:] * 9]), columns=s.columns)
    assert split_series(changed, seq_len=4, forecast_len=2, ends=(20, 28, 40)).scaler == parts.scaler
    back = parts.scaler.unscale(parts.scaler.scale(s.values))
    assert np.allclose(back, s.values, rtol=1e-12)


def test_an_earlier_scaler_is_taken():
    scaler = Scaler(mean=(0.0, 0.0, 0.0), std=(2.0, 2.0, 2.0))
    s = series()
    parts = split_series(s, seq_len=4, forecast_len=2, ends=(20, 28, 40), scaler=scaler)
    assert np.allclose(parts.train.values.numpy(), s.values[:20] / 2)
    with pytest.raises(DataError, match="1 variates; s has 3"):
        split_series(s, seq_len=4, forecast_len=2, ends=(20, 28, 40), scaler=Scaler(mean=(0.0,), std=(1.0,)))


def test_a_constant_variate_is_not_divided_by_nothing():
    assert Scaler.fit(np.full((9, 1), 0.1)).std == (1.0,)
    for bad in ({"mean": (1.0,), "std": (0.0,)}, {"mean": (), "std": ()}, {"mean": (float("nan"),), "std": (1.0,)}):
        with pytest.raises(DataError):
            Scaler(**bad)


@pytest.mark.parametrize("ends", [(0, 5, 9), (20, 20, 40), (20, 28, 41), (28, 20, 40)])
def test_ends_out_of_order_are_refused(ends):
    with pytest.raises(ConfigError, match="40 readings"):
        split_series(series(), seq_len=4, forecast_len=2, ends=ends)


def test_a_part_too_short_is_named():
    with pytest.raises(DataError, match="val part of s"):
        split_series(series(), seq_len=4, forecast_len=9, ends=(20, 28, 40))
    with pytest.raises(DataError, match="train part of s"):
        split_series(series(), seq_len=19, forecast_len=2, ends=(20, 28, 40))


def test_shares_round_as_published():
    assert ends_by_share(52696) == (36887, 52696 - 10539, 52696)
    for train, test in ((0.9, 0.2), (0.0, 0.2), (0.7, 0.0)):
        with pytest.raises(ConfigError, match="leave a part"):
            ends_by_share(100, train=train, test=test)
