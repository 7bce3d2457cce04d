"""Frames of one video: from a folder of pictures, or from a video file through PyAV."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from sparseflow.errors import DataError, UnsupportedError

__all__ = ["FRAME_ENDINGS", "count_frames", "read_frames"]

FRAME_ENDINGS = (".jpg", ".jpeg", ".png")


def count_frames(path: Path) -> int:
    """Return how many frames a folder or a video file holds.

    Raises:
        DataError: it holds none, or cannot be read; names it.
        UnsupportedError: a video file, and PyAV is not installed.
    """
    if path.is_dir():
        return len(_pictures(path))
    av = _pyav(path)
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} holds no video stream")
            count = int(container.streams.video[0].frames) or sum(1 for _ in container.decode(video=0))
    except (av.error.FFmpegError, OSError) as e:
        raise DataError(f"{path} is damaged or no video: {e}") from e
    if not count:
        raise DataError(f"{path} holds no frame")
    return count


def read_frames(path: Path, indices: Sequence[int]) -> list[Image.Image]:
    """Return some frames as RGB pictures, in the order of `indices`, which may repeat.

    Args:
        path: folder whose pictures, in their natural order, are the frames (`frame2.jpg` before `frame10.jpg`); or a
            video file, which is decoded from its beginning to the last frame asked for.
        indices: frames from 0.

    Raises:
        DataError: a frame that is missing, broken or cut short; names its file.
        UnsupportedError: a video file, and PyAV is not installed.
    """
    if path.is_dir():
        pictures = _pictures(path)
        if max(indices) >= len(pictures):
            raise DataError(f"{path} holds {len(pictures)} frames; frame {max(indices)} was asked for")
        opened = {i: _open(pictures[i]) for i in set(indices)}
    else:
        opened = _decode(path, set(indices))
    return [opened[i] for i in indices]


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    # Numbers compare as numbers, so that frame 10 comes after frame 2 without zeros in front.
    parts = re.split(r"(\d+)", path.stem)
    return [(int(p), "") if p.isdigit() else (-1, p) for p in parts], path.name


def _pictures(folder: Path) -> list[Path]:
    found = sorted((p for p in folder.iterdir() if p.suffix.lower() in FRAME_ENDINGS), key=_natural)
    if not found:
        raise DataError(f"{folder} holds no frame; expected pictures that end in {', '.join(FRAME_ENDINGS)}")
    return found


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as e:
        raise DataError(f"{path} is a broken frame: {e}; extract it again or leave its video out of the lists") from e


def _decode(path: Path, wanted: set[int]) -> dict[int, Image.Image]:
    av, found = _pyav(path), dict[int, Image.Image]()
    try:
        with av.open(str(path)) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if index in wanted:
                    found[index] = frame.to_image()
                if index >= max(wanted):
                    break
    except (av.error.FFmpegError, OSError, IndexError) as e:
        raise DataError(f"{path} is damaged or no video: {e}") from e
    if missing := wanted - found.keys():
        raise DataError(f"{path} ends before frame {min(missing)}, which its header promises")
    return found


def _pyav(path: Path) -> Any:
    if not path.is_file():
        raise DataError(f"{path} is missing")
    try:
        import av
    except ImportError as e:
        raise UnsupportedError(
            f"{path} is a video file, which PyAV reads: pip install sparseflow[video], or extract its frames"
        ) from e
    return av
