"""The page of a co-design: wafer, pipeline, convergence, designs that were judged, and what weights would change."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from sparseflow.report.codesign import CodesignRun, Die, Seen, Slice
from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.page import template
from sparseflow.report.plots import Line, Plane, Spot, axis

__all__ = ["convergence_plane", "designs_plane", "front", "render_codesign", "schedule", "write_codesign"]

_SAMPLES = 4


def render_codesign(run: CodesignRun) -> str:
    """Return the run as one self-contained HTML page, like `render`.

    Args:
        run: what to show; every part that is empty is left out.

    >>> from sparseflow.report.codesign import Die
    >>> die = Die(slot=0, type="big_core", x_mm=0, y_mm=0, width_mm=25, height_mm=24, power_w=9, busy=1, memory_mb=1)
    >>> run = CodesignRun(title="Wafer", headline="One die", network="net", radius_mm=150, t_max_c=30, dies=(die,))
    >>> "big_core" in render_codesign(run)
    True
    """
    energy = designs_plane(run.seen, "latency_ms", "energy_mj", ("latency or period, ms", "energy, mJ"))
    area = designs_plane(run.seen, "area_mm2", "latency_ms", ("area of all dies, mm²", "latency or period, ms"))
    return template("codesign.html.j2").render(
        run=run,
        headline=run.headline,
        data=run.to_dict(),
        types=sorted({die.type for die in run.dies}),
        slots=[die.slot for die in run.dies],
        view=_view_mm(run),
        span_ms=max((s.end_ms for s in run.gantt), default=0.0),
        convergence=convergence_plane(run),
        planes=[plane for plane in (energy, area) if plane is not None],
        most_bytes=max((link.bytes for link in run.links), default=1.0),
        at={die.slot: die for die in run.dies},
    )


def write_codesign(run: CodesignRun, folder: str | Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder, each whole or not at all.

    Args:
        run: what to write.
        folder: where to; created if missing.

    Raises:
        DataError: the folder cannot be written.
    """
    path = prepare_folder(folder)
    page = render_codesign(run)
    text = json.dumps(run.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomic(path / "report.html", page), write_atomic(path / "report.json", text)


def _view_mm(run: CodesignRun) -> float:
    """Return half of the side that is drawn: the wafer, or its middle where all dies lie there."""
    reach = max(max(abs(d.x_mm) + d.width_mm, abs(d.y_mm) + d.height_mm) for d in run.dies)
    return min(1.03 * run.radius_mm, 1.4 * reach)


def convergence_plane(run: CodesignRun) -> Plane | None:
    """Return L_hw behind each phase; None with fewer than two lines. A dot is a proposal that was taken."""
    if len(run.phases) < 2:
        return None
    across = axis([0.0, float(len(run.phases) - 1)])
    up = axis([p.objective for p in run.phases])
    places = [(across.place(float(i)), up.place(p.objective)) for i, p in enumerate(run.phases)]
    spots = tuple(
        Spot(x=x, y=y, kind="chosen" if p.accepted else "teacher", tip=f"epoch {p.epoch}, {p.phase}: {p.objective:.4f}")
        for (x, y), p in zip(places, run.phases, strict=True)
    )
    line = Line(name="L_hw", path=tuple(places), band=(), ours=True, tip="hard objective of the design in force")
    return Plane(across=across, up=up, lines=(line,), spots=spots, labels=("phase", "L_hw"))


def designs_plane(seen: Sequence[Seen], x: str, y: str, labels: tuple[str, str]) -> Plane | None:
    """Return all designs that were judged by two of their figures; None with fewer than two.

    Args:
        seen: the designs.
        x: name of the figure from left to right.
        y: from below.
        labels: of both.
    """
    if len(seen) < 2:
        return None
    across, up = (axis([float(getattr(s, name)) for s in seen]) for name in (x, y))
    spots = tuple(
        Spot(
            x=across.place(float(getattr(s, x))),
            y=up.place(float(getattr(s, y))),
            kind="chosen" if s.chosen else "front" if s.front else "teacher",
            tip=f"{s.latency_ms:.4g} ms, {s.energy_mj:.4g} mJ, {s.area_mm2:.0f} mm², {s.chips} chips",
        )
        for s in sorted(seen, key=lambda s: (s.chosen, s.front))
    )
    return Plane(across=across, up=up, spots=spots, labels=labels)


def front(rows: Sequence[tuple[float, ...]]) -> list[bool]:
    """Return which rows no other one beats: at least as small in all columns and smaller in one.

    >>> front([(1.0, 2.0), (2.0, 1.0), (2.0, 2.0)])
    [True, True, False]
    """
    return [
        not any(other != row and all(a <= b for a, b in zip(other, row, strict=True)) for other in rows) for row in rows
    ]


def schedule(segments: Sequence[tuple[int, float]], dies: Sequence[Die], *, samples: int = _SAMPLES) -> list[Slice]:
    """Return when the segments of the first samples run: in order, one at a time on a slot, transfers left out.

    Args:
        segments: slot and ms of each, in order.
        dies: whose slots these are.
        samples: how many enter one after the other.

    >>> [(s.start_ms, s.end_ms) for s in schedule([(0, 2.0), (1, 1.0)], (), samples=2)]
    [(0.0, 2.0), (2.0, 3.0), (2.0, 4.0), (4.0, 5.0)]
    """
    free: dict[int, float] = defaultdict(float)
    found = []
    for sample in range(samples):
        ready = 0.0
        for k, (slot, ms) in enumerate(segments):
            start = max(ready, free[slot])
            ready = free[slot] = start + ms
            found.append(Slice(segment=k, sample=sample, slot=slot, start_ms=start, end_ms=ready))
    return found
