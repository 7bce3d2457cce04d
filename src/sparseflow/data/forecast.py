"""Windows of a series: what was seen and what came after, scaled by the statistics of the training part."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseflow.data.csv_series import Series
from sparseflow.errors import ConfigError, DataError

__all__ = ["ForecastSplits", "Scaler", "Windows", "ends_by_share", "split_series"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaler:
    """Mean and deviation of each variate, by which values are scaled: z = (x - mean) / std.

    Args:
        mean: V means.
        std: V deviations, above 0.

    Raises:
        DataError: another number of them, or a deviation that is not above 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the fields."""
        if len(self.mean) != len(self.std) or not self.mean:
            raise DataError(f"a scaler of {len(self.mean)} means and {len(self.std)} deviations")
        if not all(np.isfinite(self.mean)) or not all(0 < s < float("inf") for s in self.std):
            raise DataError("a scaler holds a mean that is not finite or a deviation that is not above 0")

    @classmethod
    def fit(cls, values: NDArray[np.float64]) -> "Scaler":
        """Return the scaler of readings `[T, V]`: population deviation, 1 for a variate that never changes.

        >>> Scaler.fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
        Scaler(mean=(2.0, 5.0), std=(1.0, 1.0))
        """
        mean, std = values.mean(0), values.std(0)
        flat = np.ptp(values, axis=0) == 0
        return cls(mean=tuple(mean.tolist()), std=tuple(np.where(flat, 1.0, std).tolist()))

    def scale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return readings `[..., V]` scaled."""
        return np.asarray((values - np.array(self.mean)) / np.array(self.std), np.float64)

    def unscale(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return scaled readings `[..., V]` in their own units."""
        return np.asarray(values * np.array(self.std) + np.array(self.mean), np.float64)


class Windows:
    """All windows of some scaled readings: L readings seen, the F that follow asked for.

    The readings lie once in memory; a window is cut out when it is taken, on the device of the readings.

    Args:
        values: `[T, V]` float32.
        seq_len: L.
        forecast_len: F.

    Raises:
        ConfigError: a length below 1.
        DataError: fewer readings than one window has.
    """

    def __init__(self, values: Tensor, *, seq_len: int, forecast_len: int) -> None:
        for name, length in (("seq_len", seq_len), ("forecast_len", forecast_len)):
            if length < 1:
                raise ConfigError(f"{name} is {length}; expected at least 1")
        if len(values) < seq_len + forecast_len:
            raise DataError(
                f"{len(values)} readings hold no window of {seq_len} seen and {forecast_len} asked for;"
                " shorten seq_len or forecast_len, or bring more readings"
            )
        self.values, self.seq_len, self.forecast_len = values, seq_len, forecast_len
        self._cut = values.unfold(0, seq_len + forecast_len, 1)

    def __len__(self) -> int:
        """Return the number of windows, T - L - F + 1."""
        return len(self._cut)

    @property
    def variates(self) -> int:
        """Number of variates V."""
        return self.values.shape[1]

    def to(self, device: torch.device | str) -> "Windows":
        """Return the windows with their readings on a device."""
        return Windows(self.values.to(device), seq_len=self.seq_len, forecast_len=self.forecast_len)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return some windows.

        Args:
            index: `[B]` int64, where the windows begin, on the device of the readings.

        Returns:
            What was seen `[B, V, L]`, and what came after `[B, V, F]`; views of one tensor.

        >>> x, y = Windows(torch.arange(5.0)[:, None], seq_len=2, forecast_len=1).take(torch.tensor([0, 2]))
        >>> x.tolist(), y.tolist()
        ([[[0.0, 1.0]], [[2.0, 3.0]]], [[[2.0]], [[4.0]]])
        """
        cut = self._cut[index]
        return cut[..., : self.seq_len], cut[..., self.seq_len :]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastSplits:
    """A series divided in time: train, then val, then test; the last two also see the L readings before them.

    Args:
        train: for weights.
        val: for stopping and choosing.
        test: for the figures that are told.
        scaler: fitted on the readings of `train`.
        series: the readings in their own units.
        ends: readings at which train, val and test end.
    """

    train: Windows
    val: Windows
    test: Windows
    scaler: Scaler
    series: Series
    ends: tuple[int, int, int]


def ends_by_share(readings: int, *, train: float = 0.7, test: float = 0.2) -> tuple[int, int, int]:
    """Return the readings at which train, val and test end, by their shares.

    Args:
        readings: how many there are.
        train: share of the training, at the start; val is what lies between.
        test: share of the test, at the end.

    Raises:
        ConfigError: shares that leave nothing for one of the three.

    >>> ends_by_share(100)
    (70, 80, 100)
    """
    first, last = int(readings * train), int(readings * test)
    if not 0 < first < readings - last < readings:
        raise ConfigError(f"shares {train} and {test} of {readings} readings leave a part without any")
    return first, readings - last, readings


def split_series(
    series: Series, *, seq_len: int, forecast_len: int, ends: tuple[int, int, int], scaler: Scaler | None = None
) -> ForecastSplits:
    """Divide a series in time and scale it by its training part.

    Args:
        series: the readings.
        seq_len: L, readings seen.
        forecast_len: F, readings asked for.
        ends: readings at which train, val and test end.
        scaler: of an earlier training; None fits one on the training part.

    Raises:
        ConfigError: ends out of order or beyond the series.
        DataError: a part that holds no window, or a scaler of other variates.

    Source: the division and scaling of Zhou et al., Informer, AAAI 2021, as all later papers use them.
    """
    train, val, test = ends
    if not 0 < train < val < test <= len(series):
        raise ConfigError(f"parts that end at {train}, {val}, {test} do not fit {len(series)} readings")
    chosen = Scaler.fit(series.values[:train]) if scaler is None else scaler
    if len(chosen.mean) != len(series.columns):
        raise DataError(f"the scaler has {len(chosen.mean)} variates; {series.name} has {len(series.columns)}")
    scaled = torch.from_numpy(chosen.scale(series.values).astype(np.float32))
    parts = []
    for name, start, end in (("train", 0, train), ("val", train - seq_len, val), ("test", val - seq_len, test)):
        if start < 0:
            raise DataError(f"the {name} part of {series.name} would begin before the series; shorten seq_len")
        try:
            parts.append(Windows(scaled[start:end], seq_len=seq_len, forecast_len=forecast_len))
        except DataError as e:
            raise DataError(f"the {name} part of {series.name}: {e}") from e
    return ForecastSplits(train=parts[0], val=parts[1], test=parts[2], scaler=chosen, series=series, ends=ends)
