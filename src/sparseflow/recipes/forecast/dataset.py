"""The windows that a configuration trains, chooses and tests on."""

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from sparseflow.data import ETT, Scaler, Series, csv_series, ends_by_share, ett, ett_ends, npz_xy, split_series
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast.config import ForecastConfig

__all__ = ["Pool", "Task", "open_task", "read_series"]


class Pool(Protocol):
    """Windows with what came after them: `sparseflow.data.Windows` or `Pairs`."""

    @property
    def variates(self) -> int:
        """Number of variates V."""

    def __len__(self) -> int:
        """Return the number of windows."""

    def to(self, device: torch.device | str) -> "Pool":
        """Return them on a device."""

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return some: seen `[B, V, L]`, and asked for `[B, V, F]`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is to be forecast.

    Args:
        name: of the data set.
        parts: windows by split, "train", "val" and, of a series, "test".
        columns: names of the variates.
        targets: indices of those that are scored; all of them if none were named.
        scaler: of the series; None for windows that come as they are.
        dates: of all readings of the series, as they stand in the file; None without.
        starts: reading at which each split's first window begins.
    """

    name: str
    parts: dict[str, Pool]
    columns: tuple[str, ...]
    targets: tuple[int, ...]
    scaler: Scaler | None
    dates: tuple[str, ...] | None = None
    starts: dict[str, int] = field(default_factory=dict)

    def part(self, split: str) -> Pool:
        """Return the windows of a split.

        Raises:
            ConfigError: there is no such split; says which there are.
        """
        if split not in self.parts:
            raise ConfigError(f"{self.name} has no split {split!r}; there are {', '.join(self.parts)}")
        return self.parts[split]


def read_series(config: ForecastConfig) -> Series:
    """Return the series of a configuration, with the columns that it names.

    Raises:
        ConfigError: an unknown column.
        DataError: unreadable.
    """
    series = (
        ett(config.dataset, config.data)
        if config.dataset in ETT
        else csv_series(config.data or "", missing=config.missing)
    )
    return series.select(config.columns) if config.columns else series


def open_task(config: ForecastConfig, scaler: Scaler | None = None) -> Task:
    """Read, divide and scale the data of a configuration.

    Args:
        config: names them.
        scaler: of an earlier training; None fits one.

    Raises:
        ConfigError: unknown columns or targets, or shares that leave nothing.
        DataError: unreadable, too short, or windows of other lengths than the configuration's.
    """
    if config.dataset == "npz":
        return _pairs(config)
    series = read_series(config)
    if unknown := [t for t in config.targets if t not in series.columns]:
        raise ConfigError(f"{series.name} has no target {', '.join(unknown)}; there are {', '.join(series.columns)}")
    ends = (
        ett_ends(config.dataset)
        if config.dataset in ETT
        else ends_by_share(len(series), train=config.train_share, test=config.test_share)
    )
    split = split_series(series, seq_len=config.seq_len, forecast_len=config.forecast_len, ends=ends, scaler=scaler)
    return Task(
        name=series.name,
        parts={"train": split.train, "val": split.val, "test": split.test},
        columns=series.columns,
        targets=tuple(series.columns.index(t) for t in config.targets or series.columns),
        scaler=split.scaler,
        dates=series.dates,
        starts={"train": 0, "val": ends[0] - config.seq_len, "test": ends[1] - config.seq_len},
    )


def _pairs(config: ForecastConfig) -> Task:
    train, val = npz_xy(config.data or "")
    if train.x.ndim != 3 or train.y.ndim != 3 or train.x.shape[1] != train.y.shape[1]:
        raise DataError(
            f"{config.data}: inputs {list(train.x.shape)} and answers {list(train.y.shape)}; a forecaster needs"
            " [N, V, L] and [N, V, F]"
        )
    for name, wanted, found in (
        ("seq_len", config.seq_len, train.x.shape[2]),
        ("forecast_len", config.forecast_len, train.y.shape[2]),
    ):
        if wanted != found:
            raise DataError(f"{config.data} holds windows with {name} {found}, not {wanted}; set {name} to {found}")
    columns = tuple(f"v{i}" for i in range(train.variates))
    if unknown := [t for t in (*config.targets, *config.columns) if t not in columns]:
        raise ConfigError(f"{config.data} has no variate {', '.join(unknown)}; they are called v0 to {columns[-1]}")
    targets = tuple(columns.index(t) for t in config.targets or columns)
    return Task(name=config.name, parts={"train": train, "val": val}, columns=columns, targets=targets, scaler=None)
