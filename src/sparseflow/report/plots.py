"""Geometry of histograms, curves and scatters on the page: figures in, places in a unit square out."""

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from sparseflow.report.triseg import Curve, Finding, SiteView

__all__ = ["Axis", "Bar", "Histogram", "Line", "Plane", "Spot", "axis", "curves_plane", "findings_plane", "histogram"]

_LAST = 127


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """A scale with round ticks.

    Args:
        low: value at place 0.
        high: value at place 1.
        ticks: place and label.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Return where a value lies, 0 to 1 within the scale."""
        return round((value - self.low) / (self.high - self.low), 5)


def axis(values: Iterable[float], *, ticks: int = 5) -> Axis:
    """Return a scale that holds all values and begins and ends at a round number.

    >>> axis([0.0, 97.0]).ticks
    ((0.0, '0'), (0.2, '20'), (0.4, '40'), (0.6, '60'), (0.8, '80'), (1.0, '100'))
    """
    from matplotlib.ticker import MaxNLocator

    known = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low, high = min(known), max(known)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    at = [float(t) for t in MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    span = at[-1] - at[0]
    return Axis(low=at[0], high=at[-1], ticks=tuple((round((t - at[0]) / span, 5), f"{t:g}") for t in at))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The count of one code.

    Args:
        x: left end.
        width: of it.
        height: share of the tallest, on a logarithmic scale.
        segment: 0 for zeros, 1 for v1, 2 for v2, 3 beyond tmax.
        tip: what it says.
    """

    x: float
    width: float
    height: float
    segment: int
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The codes of a site with its segments.

    Args:
        site: what is drawn.
        zeros: share of code 0, which has no bar.
        bars: one a code that occurred, from 1.
        bands: segment, left end and width of each segment.
        values: place and code of v1 and v2.
        ticks: place and code along the axis.
    """

    site: SiteView
    zeros: float
    bars: tuple[Bar, ...]
    bands: tuple[tuple[int, float, float], ...]
    values: tuple[tuple[float, int], ...]
    ticks: tuple[tuple[float, str], ...]


def histogram(site: SiteView, *, overflow: str = "pass") -> Histogram:
    """Return the histogram of a site up to its greatest code, or to 127.

    Heights are logarithmic, log(1 + n) over that of the most frequent code from 1 on: escapes are few, and matter.
    """
    t1, v1, t2, v2, tmax = site.codes
    last = max([_LAST, *(q for q in range(256) if site.counts[q])])
    unit = 1 / last
    total = max(sum(site.counts), 1)
    top = math.log1p(max(site.counts[1:]) or 1)
    ends = (0, t1, t2, min(tmax, last), last)

    def segment(q: int) -> int:
        at = sum(q > t for t in (t1, t2, tmax))
        return min(at, 2) if overflow == "clip" else at

    names = ("0", f"v1 = {v1}", f"v2 = {v2}", f"tmax = {tmax}" if overflow == "saturate" else "itself")
    values = (v1, v2, tmax) if overflow == "saturate" else (v1, v2)
    bars = tuple(
        Bar(
            x=round((q - 1) * unit, 5), width=round(unit, 5), height=round(math.log1p(site.counts[q]) / top, 5),
            segment=segment(q),
            tip=f"code {q}: {site.counts[q]} times, {100 * site.counts[q] / total:.2f} %, becomes {names[segment(q)]}",
        )
        for q in range(1, last + 1)
        if site.counts[q]
    )  # fmt: skip
    bands = tuple(
        (min(i, 2) if overflow == "clip" else i, round(a * unit, 5), round((b - a) * unit, 5))
        for i, (a, b) in enumerate(itertools.pairwise(ends))
        if b > a
    )
    return Histogram(
        site=site,
        zeros=site.counts[0] / total,
        bars=bars,
        bands=bands,
        values=tuple((round((v - 0.5) * unit, 5), v) for v in values if v > 0),
        ticks=tuple((round((q - 0.5) * unit, 5), str(q)) for q in sorted({t1, t2, min(tmax, last), last}) if q > 0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A curve.

    Args:
        name: of it.
        path: places of its corners.
        band: places of the outline from low to high, or empty.
        ours: whether it is the default searcher.
        tip: what it says.
    """

    name: str
    path: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float], ...]
    ours: bool
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One dot: where, what kind, and what it says."""

    x: float
    y: float
    kind: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """Two axes and what lies between them.

    Args:
        across: from left to right.
        up: from below.
        lines: curves.
        spots: dots.
        levels: place up and label of lines from side to side.
        labels: of both axes.
    """

    across: Axis
    up: Axis
    lines: tuple[Line, ...] = ()
    spots: tuple[Spot, ...] = ()
    levels: tuple[tuple[float, str], ...] = ()
    labels: tuple[str, str] = field(default=("", ""))


def curves_plane(curves: Sequence[Curve], *, share: float = 0.02) -> Plane | None:
    """Return the best reward against evaluations; None without a curve.

    The scale of rewards begins where the best curves are after the share of the evaluations given: what the worst
    first draws had is far below and of no interest.

    Args:
        curves: of the searchers.
        share: of the evaluations after which rewards count for the scale.
    """
    drawn = [c for c in curves if c.points]
    if not drawn:
        return None
    most = max(c.points[-1][0] for c in drawn)
    seen = [r for c in drawn for n, r in c.points if n >= share * most] or [r for c in drawn for _, r in c.points]
    across, up = axis([0.0, float(most)]), axis(seen)
    lines = []

    def place(points: Iterable[tuple[int, float]]) -> tuple[tuple[float, float], ...]:
        return tuple((across.place(n), min(max(up.place(r), 0.0), 1.0)) for n, r in _steps(list(points)))

    for c in drawn:
        corners = place(c.points)
        band: tuple[tuple[float, float], ...] = ()
        if c.low and c.high:
            lower, upper = (place(zip([n for n, _ in c.points], edge, strict=True)) for edge in (c.low, c.high))
            band = (*lower, *reversed(upper))
        n, r = c.points[-1]
        of = f", median of {c.seeds} seeds" if c.seeds > 1 else ""
        tip = f"{c.name}: {r:.4g} after {n} evaluations{of}"
        lines.append(Line(name=c.name, path=corners, band=band, ours=c.ours, tip=tip))
    return Plane(across=across, up=up, lines=tuple(lines), labels=("evaluations", "best reward"))


def findings_plane(findings: Sequence[Finding]) -> Plane | None:
    """Return accuracy against bits; None without any finding. The teacher, of 8 bits, is a line from side to side."""
    drawn = [f for f in findings if f.kind != "teacher"]
    if not drawn:
        return None
    across, up = axis([f.bits for f in drawn]), axis([f.accuracy for f in findings])
    spots = tuple(
        Spot(
            x=across.place(f.bits),
            y=up.place(f.accuracy),
            kind=f.kind,
            tip=f"{f.name}: {f.accuracy:.2f} % with {f.bits:.2f} bits",
        )
        for f in drawn
    )
    levels = tuple((up.place(f.accuracy), f"{f.name}, {f.bits:g} bits") for f in findings if f.kind == "teacher")
    return Plane(across=across, up=up, spots=spots, levels=levels, labels=("bits an activation", "accuracy, %"))


def _steps(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the corners of a staircase: the best reward stays until a better one comes."""
    corners = list(points[:1])
    for (_, before), (n, after) in itertools.pairwise(points):
        corners += [(n, before), (n, after)]
    return corners
