"""Packed: a matrix as it lies in memory in some format, and what that costs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.ops.formats.format import Format

__all__ = ["Ints", "Packed", "Storage", "Stored", "counts", "extents", "resolve"]

Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """The arrays of one level.

    Args:
        nodes: how many nodes the tree has at this depth.
        size: coordinates of the axis, for dense levels; 0 elsewhere.
        pos: `[parents + 1]` where the nodes of each parent begin; None where each has as many as the others.
        crd: `[nodes]` coordinates, or their distances; None where they follow from the place.
    """

    nodes: int
    size: int = 0
    pos: Ints | None = None
    crd: Ints | None = None

    @property
    def bytes(self) -> int:
        """Bytes of both arrays."""
        return sum(a.nbytes for a in (self.pos, self.crd) if a is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What a packed matrix costs.

    Args:
        nnz: entries of the matrix.
        slots: values stored, padding with them.
        value_bytes: of all slots.
        index_bytes: of positions, coordinates and orders of rows and columns.
        csr_bytes: of the same matrix in CSR with indices of 32 bits.
    """

    nnz: int
    slots: int
    value_bytes: int
    index_bytes: int
    csr_bytes: int

    @property
    def bytes(self) -> int:
        """All bytes."""
        return self.value_bytes + self.index_bytes

    @property
    def fill(self) -> float:
        """Share of slots that hold an entry; 1 where there are none."""
        return self.nnz / self.slots if self.slots else 1.0

    @property
    def against_csr(self) -> float:
        """Bytes as a multiple of those of CSR."""
        return self.bytes / self.csr_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """A matrix in a format.

    Args:
        format: the format.
        shape: rows and columns.
        levels: the arrays of each level.
        values: `[slots]`, 0 in padding.
        slots: int64 `[nnz]`, the place among `values` of each entry, in the order of the CSR matrix that was packed.
        row_order: `[rows]` which row of the matrix is stored in which place; None for its own order.
        column_order: the same of columns.
    """

    format: Format
    shape: tuple[int, int]
    levels: tuple[Stored, ...]
    values: NDArray[np.floating[Any]]
    slots: NDArray[np.int64]
    row_order: Ints | None = None
    column_order: Ints | None = None

    def coordinates(self, n: int) -> NDArray[np.int64]:
        """Return the coordinates that level `n` stores, distances added up: int64 `[nodes]`."""
        level = self.levels[n]
        if level.crd is None:
            return np.zeros(0, np.int64)
        crd = level.crd.astype(np.int64)
        if not self.format.levels[n].delta or level.pos is None or not len(crd):
            return crd
        sums = np.cumsum(crd)
        lengths = counts(level.pos)
        starts = level.pos[:-1].astype(np.int64)[lengths > 0]
        before = sums[starts] - crd[starts]
        decoded: NDArray[np.int64] = sums - np.repeat(before, lengths[lengths > 0])
        return decoded

    @property
    def storage(self) -> Storage:
        """What it costs."""
        orders = sum(a.nbytes for a in (self.row_order, self.column_order) if a is not None)
        nnz, item = len(self.slots), self.values.itemsize
        return Storage(
            nnz=nnz,
            slots=len(self.values),
            value_bytes=self.values.nbytes,
            index_bytes=sum(level.bytes for level in self.levels) + orders,
            csr_bytes=nnz * (item + 4) + 4 * (self.shape[0] + 1),
        )


def counts(pos: Ints) -> NDArray[np.int64]:
    """Return how many nodes each parent has, int64 `[parents]`, from where they begin, `[parents + 1]`."""
    starts = pos.astype(np.int64)
    return starts[1:] - starts[:-1]


def extents(fmt: Format, shape: tuple[int, int], longest: int) -> dict[str, int]:
    """Return how many coordinates each axis has that can be dense.

    Args:
        fmt: the format.
        shape: rows and columns.
        longest: non-zeros of the longest row.
    """
    (rows, columns), r, c = shape, fmt.rows_inner, fmt.columns_inner
    return {"i": rows, "i0": -(-rows // r), "i1": r, "k": columns, "k0": -(-columns // c), "k1": c, "p": longest}


def resolve(fmt: Format, axes: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return row and column from the coordinates of all levels; arrays or integers.

    In padding both may lie outside the matrix.
    """
    i = axes["i0"] * fmt.rows_inner + axes["i1"] if "i0" in axes else axes.get("i")
    k = axes["k0"] * fmt.columns_inner + axes["k1"] if "k0" in axes else axes.get("k")
    if k is None:
        k = i + axes["d"]
    return (k - axes["d"] if i is None else i), k
