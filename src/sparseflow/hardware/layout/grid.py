"""The fixed grid: dies in rows, the layout where none is optimised."""

import itertools

import numpy as np
import numpy.typing as npt

from sparseflow.errors import ConfigError

__all__ = ["grid_mm"]

Array = npt.NDArray[np.float64]


def grid_mm(widths_mm: Array, heights_mm: Array, *, radius_mm: float, gap_mm: float) -> Array:
    """Return centres of dies in row-major order on the grid nearest to the middle of a disc.

    Every cell holds the largest die and half a gap on each side. Of the grids
    whose middle is a cell, an edge or a corner, the one whose farthest corner
    of the S nearest cells is nearest is taken.

    Args:
        widths_mm: `[S]`.
        heights_mm: `[S]`.
        radius_mm: every corner lies within it.
        gap_mm: least distance of two dies.

    Returns:
        `[S, 2]`.

    Raises:
        ConfigError: the disc holds fewer such cells.
    """
    dies = len(widths_mm)
    width, height = float(widths_mm.max(initial=0.0)), float(heights_mm.max(initial=0.0))
    pitch = np.array([max(width, 1e-3) + gap_mm, max(height, 1e-3) + gap_mm])
    # No more than S cells in a row are ever needed.
    reach = np.minimum(np.ceil(radius_mm / pitch).astype(int), dies) + 1
    index = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1).reshape(-1, 2)
    best: tuple[float, Array] | None = None
    for shift in itertools.product((0.0, 0.5), repeat=2):
        cells = (index + np.array(shift)) * pitch
        far = np.hypot(*(np.abs(cells) + np.array([width, height]) / 2).T)
        order = np.argsort(far, kind="stable")[:dies]
        if far[order[-1]] <= radius_mm and (best is None or far[order[-1]] < best[0]):
            best = float(far[order[-1]]), cells[order]
    if best is None:
        raise ConfigError(
            f"{dies} dies of up to {width:.1f} x {height:.1f} mm do not fit a grid within {radius_mm:g} mm; "
            "give fewer or smaller dies, or a larger wafer"
        )
    chosen = best[1]
    return chosen[np.lexsort((chosen[:, 0], -chosen[:, 1]))]
