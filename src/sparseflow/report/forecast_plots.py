"""Geometry of forecasts and loss curves on the page: readings in, places in a unit square out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sparseflow.report.forecast import Ahead, Losses
from sparseflow.report.plots import Axis, Line, Plane, Spot, axis

__all__ = ["Strip", "losses_plane", "steps_plane", "strip"]

Path = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The picture of one variate at one moment.

    Args:
        view: what is drawn.
        up: scale of its readings.
        now: place of the last reading seen.
        past: corners of what was seen.
        truth: corners of what came, from the last reading seen.
        forecast: corners of what was forecast, likewise.
        error: root of the mean squared error, in units of the data.
    """

    view: Ahead
    up: Axis
    now: float
    past: Path
    truth: Path
    forecast: Path
    error: float


def strip(view: Ahead) -> Strip:
    """Return the picture of a variate; truth and forecast begin where the past ends.

    >>> drawn = strip(Ahead(name="OT", past=(0.0, 1.0), truth=(1.0, 3.0), forecast=(1.0, 1.0)))
    >>> drawn.now, drawn.forecast, round(drawn.error, 3)
    (0.33333, ((0.33333, 0.33333), (0.66667, 0.33333), (1.0, 0.33333)), 1.414)
    """
    up = axis([*view.past, *view.truth, *view.forecast], ticks=3)
    seen, last = len(view.past), len(view.past) + len(view.truth) - 1

    def path(values: Sequence[float], first: int) -> Path:
        return tuple((round((first + i) / last, 5), up.place(v)) for i, v in enumerate(values))

    squares = [(f - t) ** 2 for f, t in zip(view.forecast, view.truth, strict=True)]
    return Strip(
        view=view,
        up=up,
        now=round((seen - 1) / last, 5),
        past=path(view.past, 0),
        truth=path((view.past[-1], *view.truth), seen - 1),
        forecast=path((view.past[-1], *view.forecast), seen - 1),
        error=math.sqrt(sum(squares) / len(squares)),
    )


def losses_plane(courses: Sequence[Losses]) -> Plane | None:
    """Return the losses against epochs, a dot where the weights were kept; None without a training."""
    drawn = [c for c in courses if c.val]
    if not drawn:
        return None
    across = axis([1.0, float(max(len(c.val) for c in drawn))])
    up = axis([v for c in drawn for v in (*c.train, *c.val)])
    lines, spots = [], []
    for c in drawn:
        for kind, values in (("train", c.train), ("val", c.val)):
            tip = f"{c.name}, {kind}: {values[-1]:.4f} after {len(values)} epochs"
            lines.append(_line(f"{c.name}, {kind}", values, across, up, tip=tip, ours=kind == "val"))
        tip = f"{c.name}: kept epoch {c.best + 1}, {c.val[c.best]:.4f} on val"
        spots.append(Spot(x=across.place(c.best + 1), y=up.place(c.val[c.best]), kind="chosen", tip=tip))
    return Plane(
        across=across, up=up, lines=tuple(lines), spots=tuple(spots), labels=("epoch", "mean absolute error")
    )  # fmt: skip


def steps_plane(errors: Sequence[float]) -> Plane | None:
    """Return the error against the readings ahead; None with fewer than two."""
    if len(errors) < 2:
        return None
    across, up = axis([0.0, float(len(errors))]), axis([0.0, *errors])
    tip = f"{errors[0]:.3f} one reading ahead, {errors[-1]:.3f} at {len(errors)}"
    line = _line("MSE", errors, across, up, tip=tip, ours=True)
    return Plane(across=across, up=up, lines=(line,), labels=("readings ahead", "mean squared error"))


def _line(name: str, values: Sequence[float], across: Axis, up: Axis, *, tip: str, ours: bool) -> Line:
    path = tuple((across.place(i), up.place(v)) for i, v in enumerate(values, 1))
    return Line(name=name, path=path, band=(), ours=ours, tip=tip)
