"""Damaged trees in UCF101's layout, and whether what is wrong with them is said."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from sparseflow.data import VideoClips, ucf101, write_sample
from sparseflow.errors import DataError

__all__ = ["FAULTS", "told"]


def _broken_frame(tree: Path) -> str:
    frame = sorted((tree / "frames").glob("*/*_g03_*/*.jpg"))[1]
    frame.write_bytes(frame.read_bytes()[:40])
    return str(frame)


def _no_list(tree: Path) -> str:
    path = tree / "splits" / "trainlist01.txt"
    path.unlink()
    return str(path)


def _no_video_of_a_class(tree: Path) -> str:
    path = tree / "splits" / "trainlist01.txt"
    lines = path.read_text().splitlines(keepends=True)
    name = lines[0].split("/")[0]
    path.write_text("".join(line for line in lines if not line.startswith(name)))
    return name


def _missing_video(tree: Path) -> str:
    folder = next(iter(sorted((tree / "frames").glob("*/*_g03_*"))))
    folder.rename(folder.with_name("elsewhere"))
    return folder.name


def _one_frame(tree: Path) -> str:
    for frame in sorted((tree / "frames").glob("*/*_g03_*/*.jpg")):
        if frame.name != "frame0001.jpg":
            frame.unlink()
    return ""


FAULTS: dict[str, Callable[[Path], str]] = {
    "a broken frame is named": _broken_frame,
    "a missing list is named": _no_list,
    "a class without videos is named": _no_video_of_a_class,
    "a missing video is named": _missing_video,
    "videos of one frame are read": _one_frame,
}
"""What is done to a tree, and returns what an error is expected to name; nothing where there is none."""


def told(name: str, *, workers: int = 0) -> bool:
    """Damage a small tree, read an epoch of it, and return whether it went as the name says.

    Args:
        name: one of `FAULTS`.
        workers: processes that read.
    """
    with tempfile.TemporaryDirectory() as folder:
        tree = write_sample(Path(folder) / "tree", train=3, test=2, frames=4, side=32)
        expected = FAULTS[name](tree)
        try:
            clips = VideoClips(source=ucf101(tree), frames=4, side=16, lengths=(4,), workers=workers)
            count = sum(len(labels) for _, labels in clips.epoch(2, 0))
        except DataError as e:
            return bool(expected) and expected in str(e)
        return not expected and count == len(clips.source)
