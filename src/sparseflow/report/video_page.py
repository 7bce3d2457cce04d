"""The page of video transformers: one HTML file that needs no network, and its JSON twin."""

import json
from pathlib import Path
from typing import Any

from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.page import template
from sparseflow.report.plots import Plane, Spot, axis
from sparseflow.report.video import VideoRun

__all__ = ["render_video", "throughput_plane", "write_video"]


def render_video(run: VideoRun) -> str:
    """Return the run as one self-contained HTML page, like `render`.

    Args:
        run: what to show; every part that is empty is left out.

    >>> from sparseflow.report.video import VideoRow
    >>> row = VideoRow(name="dense", top1=0.9, low=0.8, high=0.95, videos=50, keep=1.0, clips_per_s=0.0, gflops=1.0,
    ...     parameters=9, dense=True)
    >>> run = VideoRun(title="digits", dataset="MNIST digits that move", synthetic=True, rows=(row,))
    >>> "90.00 % with 100% of the tokens" in render_video(run)
    True
    """
    return template("video.html.j2").render(
        run=run, headline=run.headline, data=run.to_dict(), throughput=throughput_plane(run)
    )


def write_video(run: VideoRun, folder: str | Path, *, pictures: bool = False) -> tuple[Path, ...]:
    """Write `report.html` and `report.json` into a folder, each whole or not at all.

    Args:
        run: what to write.
        folder: where to; created if missing.
        pictures: also write `kept_I_J.png`, the moving picture of clip J by network I, both from 1.

    Raises:
        DataError: the folder cannot be written.
    """
    path = prepare_folder(folder)
    page = render_video(run)
    data: dict[str, Any] = run.to_dict()
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    files = [write_atomic(path / "report.html", page), write_atomic(path / "report.json", text)]
    if pictures:
        for i, clips in enumerate(run.shown.values(), 1):
            files += [write_atomic(path / f"kept_{i}_{j}.png", clip.moving) for j, clip in enumerate(clips, 1)]
    return tuple(files)


def throughput_plane(run: VideoRun) -> Plane | None:
    """Return accuracy against clips a second; None with fewer than two networks that were timed."""
    timed = [r for r in run.rows if r.clips_per_s > 0]
    if len(timed) < 2:
        return None
    across, up = axis([0.0, *(r.clips_per_s for r in timed)]), axis([100 * r.top1 for r in timed])
    spots = tuple(
        Spot(
            x=across.place(r.clips_per_s),
            y=up.place(100 * r.top1),
            kind="teacher" if r.dense else "chosen",
            tip=f"{r.name}: {100 * r.top1:.2f} % at {r.clips_per_s:.1f} clips a second",
        )
        for r in timed
    )
    return Plane(across=across, up=up, spots=spots, labels=("clips a second", "accuracy, %"))
