"""Pictures of clips: what was kept laid over the frames, still and moving, and maps of scores."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparseflow.errors import DataError

__all__ = ["kept_frames", "moving_png", "score_frames", "strip_png"]

_DIM, _TINT = 0.22, np.array([11, 122, 117], np.float32)
_FRAME_MS, _GAP = 220, 2


def kept_frames(clip: NDArray[np.uint8], kept: NDArray[np.bool_], *, side: int = 128) -> list[NDArray[np.uint8]]:
    """Return the frames with dropped patches dimmed.

    Args:
        clip: `[T, C, H, W]` uint8 with one or three channels; of others the largest is shown.
        kept: `[T', H_p, W_p]`, which patches stay; T' times T/T' frames.
        side: pixels of the longer side of a picture.

    Raises:
        DataError: shapes that do not fit.
    """
    frames = _rgb(clip)
    grid = _stretched(kept.astype(np.float32), len(frames), frames.shape[1:3])[..., None]
    pixels = frames * (_DIM + (1 - _DIM) * grid) + (1 - grid) * (1 - _DIM) * 0.25 * _TINT
    return [_scaled(f, side) for f in pixels.round().astype(np.uint8)]


def score_frames(
    score: NDArray[np.float32], frames: int, size: tuple[int, int], *, side: int = 128
) -> list[NDArray[np.uint8]]:
    """Return maps of a score, from the smallest of the clip, dark, to the largest, bright.

    Args:
        score: `[T', H_p, W_p]`.
        frames: T.
        size: H and W of a frame.
        side: pixels of the longer side of a picture.
    """
    from matplotlib import colormaps

    low, high = float(score.min()), float(score.max())
    unit = (score - low) / (high - low) if high > low else np.zeros_like(score)
    colours = colormaps["viridis"](_stretched(unit.astype(np.float32), frames, size))[..., :3]
    return [_scaled(f, side) for f in (255 * colours).round().astype(np.uint8)]


def strip_png(frames: list[NDArray[np.uint8]]) -> bytes:
    """Return pictures of one size side by side as PNG."""
    height, width, _ = frames[0].shape
    sheet = np.zeros((height, len(frames) * (width + _GAP) - _GAP, 4), np.uint8)
    for i, frame in enumerate(frames):
        left = i * (width + _GAP)
        sheet[:, left : left + width, :3], sheet[:, left : left + width, 3] = frame, 255
    return _png(Image.fromarray(sheet))


def moving_png(frames: list[NDArray[np.uint8]]) -> bytes:
    """Return pictures one after another as an animated PNG that repeats."""
    first, *rest = (Image.fromarray(f) for f in frames)
    out = io.BytesIO()
    first.save(out, "PNG", save_all=True, append_images=rest, duration=_FRAME_MS, loop=0, optimize=True)
    return out.getvalue()


def _rgb(clip: NDArray[np.uint8]) -> NDArray[np.float32]:
    if clip.ndim != 4 or clip.dtype != np.uint8 or not clip.size:
        raise DataError(f"a clip is uint8 [T, C, H, W]; got {clip.dtype} {clip.shape}")
    colours = clip if clip.shape[1] == 3 else np.repeat(clip.max(1, keepdims=True), 3, 1)
    return np.ascontiguousarray(colours.transpose(0, 2, 3, 1), np.float32)


def _stretched(grid: NDArray[np.float32], frames: int, size: tuple[int, ...]) -> NDArray[np.float32]:
    times, rows, columns = grid.shape
    if frames % times or size[0] % rows or size[1] % columns:
        raise DataError(f"{frames} frames of {size[0]}×{size[1]} have no grid of {times}×{rows}×{columns} patches")
    wide = grid.repeat(frames // times, 0).repeat(size[0] // rows, 1)
    return wide.repeat(size[1] // columns, 2)


def _scaled(frame: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    height, width, _ = frame.shape
    times = side / max(height, width)
    size = (max(1, round(width * times)), max(1, round(height * times)))
    way = Image.Resampling.NEAREST if times >= 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(frame).resize(size, way))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
