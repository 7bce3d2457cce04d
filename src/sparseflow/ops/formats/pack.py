"""Packs a CSR matrix into a format, level by level on whole arrays, and brings it back."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import reverse_cuthill_mckee

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.ops.formats.check import refusal
from sparseflow.ops.formats.format import Format, Level, Reorder
from sparseflow.ops.formats.packed import Ints, Packed, Stored, counts, extents, resolve

__all__ = [
    "MOST_FILL", "axis_coordinates", "canonical_csr", "encode", "leaves", "orders_of", "pack", "positions", "refill",
    "unpack",
]  # fmt: skip

MOST_FILL = 20.0
"""Largest number of nodes of a level for each non-zero; beyond it a format wastes more than it can win."""

Longs = NDArray[np.int64]


def canonical_csr(a: Any) -> Any:
    """Return a scipy.sparse matrix as CSR with sorted columns; entries that are 0 stay.

    Raises:
        DataError: not a sparse matrix of two dimensions, values that are not float32 or float64, or duplicate entries.
    """
    if not sparse.issparse(a) or a.ndim != 2:
        raise DataError(f"{type(a).__name__} is no sparse matrix of scipy; make one with scipy.sparse.csr_array(a)")
    if a.dtype not in (np.float32, np.float64):
        raise DataError(f"values are {a.dtype}; convert them to float32 or float64")
    found = sparse.csr_array(a, copy=True)
    found.sort_indices()
    same_row = np.diff(np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))) == 0
    if np.any(same_row & (np.diff(found.indices) == 0)):
        raise DataError("the matrix holds two entries for one place; call sum_duplicates() on it")
    return found


def orders_of(a: Any, fmt: Format) -> tuple[Longs | None, Longs | None]:
    """Return which row, and which column, of a CSR matrix comes to which place: int64 `[n]`, or None where none moves.

    Raises:
        UnsupportedError: reverse Cuthill-McKee of a matrix that is not square.
    """
    rows, columns = counts(a.indptr), np.bincount(a.indices, minlength=a.shape[1])
    return _order(a, fmt.rows, rows), _order(a, fmt.columns, columns)


def _order(a: Any, rule: Reorder | None, lengths: Longs) -> Longs | None:
    if rule is None:
        return None
    if rule.rule == "rcm":
        if a.shape[0] != a.shape[1]:
            raise UnsupportedError(f"rcm orders square matrices; this one is {a.shape[0]} x {a.shape[1]}")
        return np.asarray(reverse_cuthill_mckee(sparse.csr_matrix(a), symmetric_mode=False), np.int64)
    places = np.arange(len(lengths))
    windows = places // (rule.window or max(len(lengths), 1))
    return np.lexsort((places, -lengths, windows)).astype(np.int64)


def _placed(coordinates: Longs, order: Longs | None) -> Longs:
    if order is None:
        return coordinates
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    found: Longs = place[coordinates]
    return found


def axis_coordinates(a: Any, fmt: Format, orders: tuple[Longs | None, Longs | None]) -> dict[str, Longs]:
    """Return the coordinate of each entry of a CSR matrix on every axis: int64 `[nnz]` by axis."""
    rows = np.repeat(np.arange(a.shape[0], dtype=np.int64), np.diff(a.indptr))
    i = _placed(rows, orders[0])
    k = _placed(a.indices.astype(np.int64), orders[1])
    by_row = np.lexsort((k, i))
    starts = np.concatenate(([0], np.cumsum(np.bincount(i, minlength=a.shape[0]))))
    p = np.empty_like(i)
    p[by_row] = np.arange(len(i)) - starts[i[by_row]]
    r, c = fmt.rows_inner, fmt.columns_inner
    return {"i": i, "i0": i // r, "i1": i % r, "k": k, "k0": k // c, "k1": k % c, "d": k - i, "p": p}


def positions(sizes: Longs) -> Ints:
    """Return where groups of these sizes begin, `[n + 1]`, in 32 bits if they fit."""
    pos = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))
    narrow: Ints = pos.astype(np.int32 if pos[-1] < 2**31 else np.int64)
    return narrow


def encode(crd: Longs, level: Level, pos: Ints | None) -> Ints:
    """Return coordinates as the level stores them.

    Raises:
        UnsupportedError: one does not fit the width.
    """
    found = crd.copy()
    if level.delta and pos is not None:
        found[1:] -= crd[:-1]
        starts = pos[:-1][counts(pos) > 0]
        found[starts] = crd[starts]
    narrow = np.int16 if level.axis == "d" else np.uint16
    kind: Any = narrow if level.bits == 16 else np.int32
    if len(found) and not (np.iinfo(kind).min <= found.min() and found.max() <= np.iinfo(kind).max):
        raise UnsupportedError(f"level {level.axis}: {found.min()} to {found.max()} do not fit {level.bits} bits")
    return found.astype(kind)


def _level(level: Level, node: Longs, coordinate: Longs, parents: int, extent: int) -> tuple[Stored, Longs]:
    if level.kind == "dense":
        return Stored(nodes=parents * extent, size=extent), node * extent + coordinate
    if level.kind == "sliced":
        widths = np.zeros(parents, np.int64)
        np.maximum.at(widths, node, coordinate + 1)
        pos = positions(widths)
        return Stored(nodes=int(pos[-1]), pos=pos), pos[node] + coordinate
    if level.kind.startswith("singleton"):
        one = np.zeros(parents, np.int64)
        one[node] = coordinate
        return Stored(nodes=parents, crd=encode(one, level, None)), node
    first = np.ones(len(node), bool)
    if level.kind == "compressed":
        first[1:] = (np.diff(node) != 0) | (np.diff(coordinate) != 0)
    pos = positions(np.bincount(node[first], minlength=parents))
    crd = encode(coordinate[first], level, pos)
    return Stored(nodes=len(crd), pos=pos, crd=crd), np.cumsum(first) - 1


def pack(a: Any, fmt: Format, *, most_fill: float = MOST_FILL) -> Packed:
    """Store a matrix in a format.

    Args:
        a: scipy.sparse matrix, float32 or float64, without duplicate entries.
        fmt: the format.
        most_fill: a level may have this many nodes for each non-zero, and one for each row and column.

    Returns:
        The packed matrix; `unpack` brings back the same CSR matrix, entries that are 0 with it.

    Raises:
        DataError: the matrix is malformed, see `canonical_csr`.
        UnsupportedError: levels that do not fit together, coordinates that do not fit their width, or more padding than
            `most_fill`; says why.

    Cost: one sort of the entries, O(nnz · log nnz), and O(nodes) for each level.

    >>> from scipy.sparse import csr_array
    >>> from sparseflow.ops.formats.named import csr
    >>> pack(csr_array([[0.0, 2.0], [3.0, 0.0]]), csr()).levels[1].crd
    array([1, 0], dtype=int32)
    """
    refused = refusal(fmt)
    if refused is not None:
        raise UnsupportedError(f"format {' '.join(fmt.axes)}: {refused.reason}")
    a = canonical_csr(a)
    orders = orders_of(a, fmt)
    axes = axis_coordinates(a, fmt, orders)
    order = np.lexsort([axes[axis] for axis in reversed(fmt.axes)])
    sizes = extents(fmt, a.shape, int(axes["p"].max(initial=-1)) + 1)
    most = most_fill * max(a.nnz, 1) + sum(a.shape) + fmt.rows_inner + fmt.columns_inner
    node, parents, levels = np.zeros(a.nnz, np.int64), 1, []
    for n, level in enumerate(fmt.levels):
        stored, node = _level(level, node, axes[level.axis][order], parents, sizes.get(level.axis, 0))
        if stored.nodes > most:
            raise UnsupportedError(f"level {n} ({level.axis}) has {stored.nodes} nodes for {a.nnz} non-zeros")
        parents = stored.nodes
        levels.append(stored)
    slots = np.empty(a.nnz, np.int64)
    slots[order] = node
    values = np.zeros(parents, a.dtype)
    values[slots] = a.data
    narrow = tuple(None if o is None else o.astype(np.int32) for o in orders)
    return Packed(
        format=fmt, shape=a.shape, levels=tuple(levels), values=values, slots=slots,
        row_order=narrow[0], column_order=narrow[1],
    )  # fmt: skip


def leaves(packed: Packed) -> tuple[Longs, Longs]:
    """Return row and column of every slot, int64 `[slots]` each, in the matrix's own order; −1 outside of it."""
    axes: dict[str, Longs] = {}
    nodes = 1
    for n, (level, stored) in enumerate(zip(packed.format.levels, packed.levels, strict=True)):
        alike = np.full(nodes, stored.size if level.kind == "dense" else 1, np.int64)
        sizes = alike if stored.pos is None else counts(stored.pos)
        axes = {axis: np.repeat(c, sizes) for axis, c in axes.items()}
        starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
        axes[level.axis] = packed.coordinates(n) if level.stored else np.arange(stored.nodes) - starts
        nodes = stored.nodes
    i, k = resolve(packed.format, axes)
    inside = (i >= 0) & (i < packed.shape[0]) & (k >= 0) & (k < packed.shape[1])
    return _moved_back(i, inside, packed.row_order), _moved_back(k, inside, packed.column_order)


def _moved_back(places: Longs, inside: NDArray[np.bool_], order: Ints | None) -> Longs:
    found = np.where(inside, places, -1)
    if order is not None:
        found[inside] = order[places[inside]]
    return found


def unpack(packed: Packed) -> Any:
    """Return the matrix as CSR with sorted columns, as it was packed.

    Raises:
        DataError: the arrays do not hold the entries in the order of a CSR matrix.
    """
    rows, columns = (c[packed.slots] for c in leaves(packed))
    place = rows * packed.shape[1] + columns
    if np.any(rows < 0) or np.any(np.diff(place) <= 0):
        raise DataError("slots do not lie in the order of a CSR matrix; pack the matrix anew")
    pos = positions(np.bincount(rows, minlength=packed.shape[0]))
    return sparse.csr_array((packed.values[packed.slots], columns, pos), shape=packed.shape)


def refill(packed: Packed, data: NDArray[np.floating[Any]]) -> Packed:
    """Return the same pattern with other values.

    Args:
        packed: a packed matrix.
        data: `[nnz]`, in the order of the CSR matrix.

    Raises:
        DataError: another number of values.
    """
    if data.shape != packed.slots.shape:
        raise DataError(f"values have shape {list(data.shape)}; the matrix has {len(packed.slots)} entries")
    values = np.zeros(len(packed.values), data.dtype)
    values[packed.slots] = data
    return replace(packed, values=values)
