"""The plate's heat as a table over offsets, for searches that ask for it thousands of times."""

import math

import numpy as np
import torch
from torch import Tensor

from sparseflow.hardware.layout.problem import LayoutProblem

__all__ = ["HeatTable"]


class HeatTable:
    """Rise at the centre of each die, by bilinear look-up, without the mirror at the rim.

    What a die gives to a point depends on the offset alone, so one table of
    `[offsets along x, offsets along y]` for each size of die serves all layouts.

    Args:
        problem: the dies.
        step_mm: distance of two entries.
    """

    def __init__(self, problem: LayoutProblem, *, step_mm: float = 1.5) -> None:
        self.step_mm, self.power_w = step_mm, problem.tensor("power_w")
        sizes = np.stack([problem.widths_mm, problem.heights_mm], -1)
        unique, kind = np.unique(sizes, axis=0, return_inverse=True)
        self.kind = torch.as_tensor(kind)
        # Beyond eight spreads nothing is left of a die's heat.
        far_mm = min(2 * problem.radius_mm, 8 * problem.plate.length_mm + float(sizes.max()))
        self.last = math.ceil(far_mm / step_mm)
        axis = torch.arange(self.last + 1, dtype=torch.float64) * step_mm
        points = torch.cartesian_prod(axis, axis)
        origin, one = torch.zeros(1, 2, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        rises = [
            problem.plate.rise_k(points, origin, width * one, height * one, one, edge=False)
            for width, height in torch.as_tensor(unique)
        ]
        self.table = torch.stack(rises).reshape(-1, self.last + 1, self.last + 1)

    def given_k(self, offset_mm: Tensor, die: Tensor) -> Tensor:
        """Return the rise that dies give at offsets `[..., 2]`, with its slope; `die` has or broadcasts to `[...]`."""
        place = (offset_mm.abs() / self.step_mm).clamp(max=self.last - 1e-9)
        low = place.detach().long()
        x, y = (place - low).unbind(-1)
        i, j = low.unbind(-1)
        kind, table = self.kind[die], self.table
        row = (1 - y) * table[kind, i, j] + y * table[kind, i, j + 1]
        next_row = (1 - y) * table[kind, i + 1, j] + y * table[kind, i + 1, j + 1]
        return ((1 - x) * row + x * next_row) * self.power_w[die]

    def rise_k(self, pos_mm: Tensor) -> Tensor:
        """Return the rise at each centre of layouts `[R, S, 2]`, `[R, S]`, with its slope."""
        offset = pos_mm[:, :, None] - pos_mm[:, None]
        return self.given_k(offset, torch.arange(pos_mm.shape[1])).sum(-1)

    def moved(self, rise_k: Tensor, old_mm: Tensor, new_mm: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """Return the rises after dies `first` and `second` of each layout, `[R]`, went from old to new places."""
        rows = torch.arange(len(old_mm))
        dies = torch.stack([first, second], 1)
        # A layout that moves one die alone names it twice.
        once = torch.stack([torch.ones_like(first), (first != second).long()], 1)
        out = rise_k.clone()
        for pos, sign in ((old_mm, -1), (new_mm, 1)):
            offset = pos[:, None] - pos[rows[:, None], dies][:, :, None]
            out += sign * (self.given_k(offset, dies[:, :, None]) * once[:, :, None]).sum(1)
        mine = new_mm[rows[:, None], dies][:, :, None] - new_mm[:, None]
        out[rows[:, None], dies] = self.given_k(mine, torch.arange(new_mm.shape[1])).sum(-1)
        return out
