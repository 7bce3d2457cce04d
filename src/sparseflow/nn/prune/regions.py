"""Voronoi regions of a frame's patches."""

import math

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError

__all__ = ["Regions", "block_regions", "build_voronoi_regions"]


def build_voronoi_regions(num_patches: int, grid: tuple[int, int], num_regions: int = 4) -> tuple[Tensor, int]:
    """Return the region of every patch, `[N]`, and the number R of regions.

    Seeds lie at ((i + ½)·H_p/s, (j + ½)·W_p/s), s = ⌈√R⌉, row by row, the first R of them; a patch belongs to the seed
    nearest to its centre, the earlier one of equals.

    Args:
        num_patches: patches N of a frame.
        grid: H_p, W_p.
        num_regions: regions asked for; regions that get no patch are allowed in small grids.

    Raises:
        ConfigError: `grid` does not hold N patches, or there are fewer patches than regions.

    >>> build_voronoi_regions(6, (2, 3), 2)[0].tolist()
    [0, 0, 1, 0, 0, 1]
    """
    rows, columns = grid
    if rows * columns != num_patches:
        raise ConfigError(f"patch_grid_h x patch_grid_w is {rows} x {columns}; expected {num_patches} patches")
    if not 1 <= num_regions <= num_patches:
        raise ConfigError(f"num_regions is {num_regions}; expected 1 to the {num_patches} patches of a frame")
    side = math.ceil(math.sqrt(num_regions))
    # In units of half a patch over `side` all places are whole numbers, and equal distances are equal.
    seeds = [((2 * i + 1) * rows, (2 * j + 1) * columns) for i in range(side) for j in range(side)][:num_regions]
    ids = [
        min(range(num_regions), key=lambda r: ((y - seeds[r][0]) ** 2 + (x - seeds[r][1]) ** 2, r))
        for y in ((2 * i + 1) * side for i in range(rows))
        for x in ((2 * j + 1) * side for j in range(columns))
    ]
    return torch.tensor(ids), num_regions


def block_regions(grid: tuple[int, int], level: int) -> tuple[Tensor, int]:
    """Return the block of every patch, `[N]`, and the number of blocks.

    Level L cuts a frame into L×L blocks of ⌈H_p/L⌉×⌈W_p/L⌉ patches; those at the edges may be smaller, and fewer.

    >>> block_regions((2, 3), 2)[0].tolist()
    [0, 0, 1, 2, 2, 3]
    """
    high, wide = (-(-side // level) for side in grid)
    across = -(-grid[1] // wide)
    ids = [(i // high) * across + j // wide for i in range(grid[0]) for j in range(grid[1])]
    return torch.tensor(ids), max(ids) + 1


class Regions(nn.Module):
    """A partition of a frame's patches, ready for means over its regions.

    Args:
        ids: region of each patch, `[N]`.
        num_regions: regions R.
    """

    ids: Tensor
    order: Tensor

    def __init__(self, ids: Tensor, num_regions: int) -> None:
        super().__init__()
        # Sizes as Python numbers: a network of static shapes runs without asking the device.
        self.sizes = torch.bincount(ids, minlength=num_regions).tolist()
        self.register_buffer("ids", ids, persistent=False)
        self.register_buffer("order", torch.argsort(ids, stable=True), persistent=False)

    def means(self, x: Tensor, dim: int) -> Tensor:
        """Return the mean over each region along `dim`, N → R; 0 for a region without patches.

        >>> Regions(torch.tensor([0, 1, 0]), 2).means(torch.tensor([1.0, 5.0, 3.0]), 0)
        tensor([2., 5.])
        """
        parts = torch.split(x.index_select(dim, self.order), self.sizes, dim)
        return torch.stack([part.sum(dim) / max(part.shape[dim], 1) for part in parts], dim)

    def members(self) -> Tensor:
        """Return `[R, N]`, 1 / size at the patches of each region, 0 elsewhere."""
        inside = torch.nn.functional.one_hot(self.ids, len(self.sizes)).T.float()
        return inside / inside.sum(1, keepdim=True).clamp(min=1)

    def spread(self, values: Tensor, dim: int) -> Tensor:
        """Give each patch its region's value along `dim`, R → N."""
        return values.index_select(dim, self.ids)
