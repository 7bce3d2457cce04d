"""The plate's heat by finite differences: slow, without the closed model's assumptions, the reference of it."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.linalg import splu

from sparseflow.errors import ConfigError
from sparseflow.hardware.layout.thermal import Plate

__all__ = ["PlateGrid"]

Array = npt.NDArray[np.float64]


class PlateGrid:
    """The disc cut into square cells, factorised once and solved for many layouts.

    Each cell exchanges k·t·(T_i − T_j) with its four neighbours and gives
    h·cell²·T to the coolant; cells whose centre lies outside do not exist,
    so that no heat leaves through the edge.

    Args:
        plate: the plate.
        cell_mm: side of a cell.

    Raises:
        ConfigError: cells that are not smaller than the disc.
    """

    def __init__(self, plate: Plate, *, cell_mm: float = 1.0) -> None:
        if not 0 < cell_mm < plate.radius_mm:
            raise ConfigError(f"cells of {cell_mm} mm on a disc of {plate.radius_mm} mm; make them smaller")
        self.plate, self.cell_mm = plate, cell_mm
        side = math.ceil(plate.radius_mm / cell_mm)
        self.edges_mm = cell_mm * np.arange(-side, side + 1)
        middle = (self.edges_mm[1:] + self.edges_mm[:-1]) / 2
        self.inside = np.hypot(middle[:, None], middle) <= plate.radius_mm
        number = np.full(self.inside.shape, -1)
        number[self.inside] = np.arange(self.inside.sum())
        pairs = np.concatenate(
            [
                np.stack([a[(a >= 0) & (b >= 0)], b[(a >= 0) & (b >= 0)]])
                for a, b in ((number[1:], number[:-1]), (number[:, 1:], number[:, :-1]))
            ],
            axis=1,
        )
        cells = int(self.inside.sum())
        sheet_w_per_k = plate.conductivity_w_per_m_k * plate.thickness_mm * 1e-3
        diagonal = np.full(cells, plate.cooling_w_per_m2_k * (cell_mm * 1e-3) ** 2)
        np.add.at(diagonal, pairs.ravel(), sheet_w_per_k)
        rows = np.concatenate([pairs[0], pairs[1], np.arange(cells)])
        columns = np.concatenate([pairs[1], pairs[0], np.arange(cells)])
        values = np.concatenate([np.full(2 * pairs.shape[1], -sheet_w_per_k), diagonal])
        self._factors = splu(coo_array((values, (rows, columns)), shape=(cells, cells)).tocsc())

    def rise_k(self, pos_mm: Array, widths_mm: Sequence[float], heights_mm: Sequence[float], power_w: Array) -> Array:
        """Return the rise of every cell, `[cells across, cells along]`, NaN outside the disc.

        Each die's power goes to cells in proportion to the area that they share.
        """
        heat = np.zeros(self.inside.shape)
        for (x, y), width, height, power in zip(pos_mm, widths_mm, heights_mm, power_w, strict=True):
            if width * height > 0:
                shared = np.outer(self._shared(x, width), self._shared(y, height))
                heat += power * shared / (width * height)
        rise = np.full(self.inside.shape, np.nan)
        rise[self.inside] = self._factors.solve(heat[self.inside])
        return rise

    def _shared(self, centre: float, length: float) -> Array:
        low = np.maximum(self.edges_mm[:-1], centre - length / 2)
        high = np.minimum(self.edges_mm[1:], centre + length / 2)
        return np.asarray(np.maximum(high - low, 0.0))
