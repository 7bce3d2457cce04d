"""Small PNG pictures: images, and spikes as they stand in memory."""

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparseflow.errors import DataError

__all__ = ["heat_png", "image_png", "maps_png"]

_SPIKE = (20, 160, 148)
_FLOAT = (116, 130, 144)
_SIDE = 48


def image_png(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image `[C, H, W]`, uint8, one or three channels, as PNG.

    Raises:
        DataError: another shape or dtype.
    """
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.dtype != np.uint8:
        raise DataError(f"an image is uint8 [1 or 3, H, W]; got {pixels.dtype} {pixels.shape}")
    rows = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    return _png(Image.fromarray(rows[..., 0] if rows.shape[2] == 1 else rows))


def heat_png(shares: NDArray[np.float32]) -> bytes:
    """Return a map of shares `[H, W]`, 0 dark to 1 bright, as PNG.

    Raises:
        DataError: another number of dimensions, or nothing in it.
    """
    from matplotlib import colormaps

    if shares.ndim != 2 or shares.size == 0:
        raise DataError(f"a map of heat is [H, W]; got {shares.shape}")
    colours = colormaps["inferno"](shares)[..., :3]
    return image_png((255 * colours).round().astype(np.uint8).transpose(2, 0, 1))


def maps_png(maps: NDArray[np.float32], *, spikes: bool = True) -> bytes:
    """Return the first channels of a tensor side by side as PNG.

    As many channels as fill a square of about 48 pixels are shown in their
    order, none is chosen. A pixel is coloured where its value is not zero,
    transparent elsewhere; larger values are darker.

    Args:
        maps: `[C, H, W]`, or `[K]` features, which are laid out as a square.
        spikes: colour them as spikes rather than as any numbers.

    Raises:
        DataError: another number of dimensions, or nothing in it.
    """
    if maps.ndim not in (1, 3) or maps.size == 0:
        raise DataError(f"maps are [C, H, W] or [K]; got {maps.shape}")
    if maps.ndim == 1:
        side = math.ceil(math.sqrt(maps.size))
        maps = np.pad(maps, (0, side * side - maps.size)).reshape(1, side, side)
    channels, height, width = maps.shape
    across = max(1, min(round(_SIDE / max(height, width)), math.isqrt(channels)))
    sheet = np.zeros((across * (height + 1) - 1, across * (width + 1) - 1), np.float32)
    for i in range(across * across):
        top, left = i // across * (height + 1), i % across * (width + 1)
        sheet[top : top + height, left : left + width] = np.abs(maps[i])
    peak = float(sheet.max())
    faint = 96 if spikes else 0
    alpha = np.where(sheet > 0, faint + (255 - faint) * sheet / (peak or 1.0), 0).astype(np.uint8)
    colour = np.broadcast_to(np.array(_SPIKE if spikes else _FLOAT, np.uint8), (*sheet.shape, 3))
    return _png(Image.fromarray(np.dstack([colour, alpha])))


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()
