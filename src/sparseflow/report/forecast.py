"""ForecastRun: everything that the page of a forecaster shows, as plain data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["FORECAST_SCHEMA", "Ahead", "ForecastRun", "Losses", "Moment", "Score"]

FORECAST_SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ahead:
    """One variate at one moment: what was seen, what came, and what was forecast, in units of the data.

    Args:
        name: of the variate.
        past: readings seen, in order.
        truth: the readings that came.
        forecast: those that were forecast.

    Raises:
        ConfigError: nothing seen, or another number of readings forecast than came.
    """

    name: str
    past: tuple[float, ...]
    truth: tuple[float, ...]
    forecast: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the lengths."""
        if not self.past or not self.truth or len(self.truth) != len(self.forecast):
            raise ConfigError(
                f"{self.name!r}: {len(self.past)} readings seen, {len(self.truth)} came, {len(self.forecast)} forecast"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One window of the data.

    Args:
        title: which one, as "window 1 of 2785, after 2017-10-24 07:00".
        variates: its pictures.
    """

    title: str
    variates: tuple[Ahead, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The course of one training.

    Args:
        name: of it, as "seed 2021".
        train: mean absolute error of each epoch, while it learned.
        val: mean absolute error on val after each epoch.
        best: epoch, from 0, whose weights were kept.

    Raises:
        ConfigError: other numbers of epochs.
    """

    name: str
    train: tuple[float, ...]
    val: tuple[float, ...]
    best: int

    def __post_init__(self) -> None:
        """Check the lengths."""
        if len(self.train) != len(self.val) or not 0 <= self.best < len(self.val):
            raise ConfigError(
                f"{self.name!r}: {len(self.train)} losses, {len(self.val)} on val, best epoch {self.best}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row of the table of results.

    Args:
        name: what was scored, as "seed 2021" or "the last reading, repeated".
        mse: mean squared error, scaled.
        mae: mean absolute error, scaled.
        kind: "seed", "mean" or "naive".
    """

    name: str
    mse: float
    mae: float
    kind: str = "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRun:
    """One forecaster, or several of the same task: scores, forecasts against truth, and how they learned.

    Args:
        title: heading of the page.
        split: windows of the scores, as "test".
        windows: how many they are.
        seq_len: readings seen.
        forecast_len: readings forecast.
        results: the table of results.
        by_variate: errors of each variate, likewise; of the first forecaster.
        by_step: mean squared error 1, 2, … readings ahead; of the first forecaster.
        moments: forecasts against truth.
        losses: courses of the trainings.
        checks: figures held against their targets, as `Check.to_dict` makes them.
        environment: machine and versions by name.
        protocol: how the figures were taken, one sentence each.
        notes: remarks for the reader.
        command: the command that repeats this page.
        created: date and time, ISO 8601.

    Raises:
        ConfigError: no result.
    """

    title: str
    split: str
    windows: int
    seq_len: int
    forecast_len: int
    results: tuple[Score, ...]
    by_variate: tuple[Score, ...] = ()
    by_step: tuple[float, ...] = ()
    moments: tuple[Moment, ...] = ()
    losses: tuple[Losses, ...] = ()
    checks: tuple[Mapping[str, Any], ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""
    created: str = ""

    def __post_init__(self) -> None:
        """Check that there is something to show."""
        if not self.results:
            raise ConfigError(f"the page {self.title!r} has no result to show")

    @property
    def main(self) -> Score:
        """The mean over seeds, or the only result."""
        return next((row for row in self.results if row.kind == "mean"), self.results[0])

    @property
    def headline(self) -> str:
        """The run in one honest sentence."""
        return f"MSE {self.main.mse:.3f}, MAE {self.main.mae:.3f} on all {self.windows} {self.split} windows"

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {"schema": FORECAST_SCHEMA, **asdict(self), "headline": self.headline}
