"""Legal layouts: whether one is, and the nearest to one that is not."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sparseflow.errors import UnsupportedError

__all__ = ["is_legal", "legalise_mm"]

Array = npt.NDArray[np.float64]

# Distances are met but for rounding; touching dies are set apart by more than that.
_ROUNDING_MM, _APART_MM = 1e-9, 1e-7


def is_legal(pos_mm: Array, widths_mm: Array, heights_mm: Array, *, radius_mm: float, gap_mm: float = 0.0) -> bool:
    """Return whether all corners lie within a radius and every two dies keep a gap; dies without area are ignored."""
    there = widths_mm * heights_mm > 0
    pos, size = pos_mm[there], np.stack([widths_mm, heights_mm], -1)[there]
    inside = np.hypot(*(np.abs(pos) + size / 2).T) <= radius_mm + _ROUNDING_MM
    near = np.abs(pos[:, None] - pos) < (size[:, None] + size) / 2 + gap_mm - _ROUNDING_MM
    overlaps = near.all(-1) & ~np.eye(len(pos), dtype=bool)
    return bool(inside.all() and not overlaps.any())


def legalise_mm(pos_mm: Array, widths_mm: Array, heights_mm: Array, *, radius_mm: float, gap_mm: float = 0.0) -> Array:
    """Return a legal layout near a given one.

    Dies are set one after the other on the legal spot nearest to where they
    were. A spot is where the die was, or where it touches on two sides: two
    placed dies, or one and the rim. The order from the middle outwards is
    tried first, then larger dies first, then larger dies first and towards
    the middle.

    Args:
        pos_mm: `[S, 2]`, centres.
        widths_mm: `[S]`; a die without area stays where it is.
        heights_mm: `[S]`.
        radius_mm: every corner lies within it.
        gap_mm: least distance of two dies.

    Returns:
        `[S, 2]`.

    Raises:
        UnsupportedError: no order fits all dies on the disc.
    """
    if is_legal(pos_mm, widths_mm, heights_mm, radius_mm=radius_mm, gap_mm=gap_mm):
        return pos_mm.copy()
    sizes = np.stack([widths_mm, heights_mm], -1)
    for targets, order in _attempts(pos_mm, sizes):
        placed = _place(targets, sizes, order, radius_mm, gap_mm)
        if placed is not None:
            return placed
    raise UnsupportedError(
        f"{len(pos_mm)} dies of {(widths_mm * heights_mm).sum():.0f} mm2 in all do not fit within {radius_mm:g} mm; "
        "give fewer or smaller dies, or a larger wafer"
    )


def _attempts(pos: Array, sizes: Array) -> Iterator[tuple[Array, npt.NDArray[np.int64]]]:
    larger_first = np.argsort(-sizes.prod(-1), kind="stable")
    yield pos, np.argsort(np.hypot(*pos.T), kind="stable")
    yield pos, larger_first
    yield np.zeros_like(pos), larger_first


def _place(targets: Array, sizes: Array, order: npt.NDArray[np.int64], radius: float, gap: float) -> Array | None:
    placed = targets.copy()
    done: list[int] = []
    for die in order[sizes[order].prod(-1) > 0]:
        spot = _nearest(targets[die], sizes[die], placed[done], sizes[done], radius, gap)
        if spot is None:
            return None
        placed[die] = spot
        done.append(int(die))
    return placed


def _nearest(target: Array, size: Array, others: Array, sizes: Array, radius: float, gap: float) -> Array | None:
    reach = (sizes + size) / 2 + gap
    x, y = (
        np.concatenate([[target[a]], others[:, a] + reach[:, a] + _APART_MM, others[:, a] - reach[:, a] - _APART_MM])
        for a in (0, 1)
    )
    rim_x, rim_y = (
        np.sqrt(np.maximum(radius**2 - (np.abs(along) + size[1 - a] / 2) ** 2, 0)) - size[a] / 2 - _APART_MM
        for a, along in ((0, y), (1, x))
    )
    spots = np.concatenate(
        [
            np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2),
            *(np.stack([sign * rim_x, y], -1) for sign in (-1, 1)),
            *(np.stack([x, sign * rim_y], -1) for sign in (-1, 1)),
        ]
    )
    spots = spots[np.hypot(*(np.abs(spots) + size / 2).T) <= radius]
    spots = spots[np.argsort(((spots - target) ** 2).sum(-1), kind="stable")]
    # The nearest spots first, in blocks: most dies find theirs in the first.
    for block in np.array_split(spots, max(1, len(spots) // 256)):
        free = ~(np.abs(block[:, None] - others) < reach).all(-1).any(-1)
        if free.any():
            return np.asarray(block[np.argmax(free)], dtype=np.float64)
    return None
