"""The plate's heat as a table over offsets, for searches that move one die at a time."""

import numpy as np
import numpy.typing as npt
import torch

from sparseflow.hardware.layout.problem import LayoutProblem

__all__ = ["HeatTable"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class HeatTable:
    """Rise at the centre of each die, by bilinear look-up, without the mirror at the rim.

    What a die gives to a point depends on the offset alone, so one table of
    `[offsets along x, offsets along y]` for each size of die serves all layouts.

    Args:
        problem: the dies.
        step_mm: distance of two entries.
    """

    def __init__(self, problem: LayoutProblem, *, step_mm: float = 1.5) -> None:
        self.step_mm, self.power_w = step_mm, problem.power_w
        # Beyond eight spreads nothing is left of a die's heat.
        far = min(
            2 * problem.radius_mm, 8 * problem.plate.length_mm + max(problem.widths_mm.max(), problem.heights_mm.max())
        )
        self.last = int(np.ceil(far / step_mm))
        sizes = np.stack([problem.widths_mm, problem.heights_mm], -1)
        unique, self.kind = np.unique(sizes, axis=0, return_inverse=True)
        axis = torch.arange(self.last + 1, dtype=torch.float64) * step_mm
        points = torch.cartesian_prod(axis, axis)
        origin, one = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        self.table = np.stack(
            [
                np.asarray(problem.plate.rise_k(points, origin, w * one, h * one, one, edge=False))
                for w, h in torch.as_tensor(unique)
            ]
        ).reshape(len(unique), self.last + 1, self.last + 1)

    def given_k(self, offset_mm: Array, die: Ints) -> Array:
        """Return the rise that dies give at offsets `[..., 2]`, of the shape of `die` broadcast."""
        place = np.minimum(np.abs(offset_mm) / self.step_mm, self.last - 1e-9)
        low = place.astype(np.int64)
        x, y = np.moveaxis(place - low, -1, 0)
        i, j = np.moveaxis(low, -1, 0)
        kind = self.kind[die]
        t = self.table
        row = (1 - y) * t[kind, i, j] + y * t[kind, i, j + 1]
        next_row = (1 - y) * t[kind, i + 1, j] + y * t[kind, i + 1, j + 1]
        return np.asarray(((1 - x) * row + x * next_row) * self.power_w[die])

    def rise_k(self, pos_mm: Array) -> Array:
        """Return the rise at each centre of layouts `[R, S, 2]`, `[R, S]`."""
        offset = pos_mm[:, :, None] - pos_mm[:, None]
        return np.asarray(self.given_k(offset, np.arange(pos_mm.shape[1])).sum(-1))

    def moved(self, rise_k: Array, old_mm: Array, new_mm: Array, first: Ints, second: Ints) -> Array:
        """Return the rises after dies `first` and `second` of each layout, `[R]`, went from old to new places."""
        rows = np.arange(len(old_mm))
        out = rise_k.copy()
        for die in (first, second):
            once = np.where((die is second) & (first == second), 0.0, 1.0)[:, None]
            for pos, sign in ((old_mm, -1), (new_mm, 1)):
                out += sign * once * self.given_k(pos - pos[rows, die][:, None], die[:, None])
        for die in (first, second):
            mine = new_mm[rows, die][:, None] - new_mm
            out[rows, die] = self.given_k(mine, np.arange(new_mm.shape[1])).sum(-1)
        return out
