"""Packing and reading of formats as they are defined: one entry and one node at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sparseflow.errors import UnsupportedError
from sparseflow.ops.formats.check import refusal
from sparseflow.ops.formats.format import Format, Level
from sparseflow.ops.formats.pack import axis_coordinates, canonical_csr, encode, orders_of, positions
from sparseflow.ops.formats.packed import Packed, Stored, extents, resolve

__all__ = ["children", "entries", "inside", "pack"]

Entry = tuple[int, dict[str, int]]


def _grown(level: Level, groups: list[list[Entry]], extent: int) -> tuple[Stored, list[list[Entry]]]:
    below: list[list[Entry]] = []
    counts, crd = [], []
    for group in groups:
        found = [axes[level.axis] for _, axes in group]
        if level.kind == "nonunique":
            nodes = [[entry] for entry in group]
            crd += found
        elif level.kind.startswith("singleton"):
            if len(set(found)) > 1:
                raise UnsupportedError(f"level {level.axis} is a singleton, but a parent has {sorted(set(found))}")
            nodes = [group]
            crd += found[:1] or [0]
        else:
            kept = {
                "dense": list(range(extent)), "sliced": list(range(max(found, default=-1) + 1)),
                "compressed": sorted(set(found)),
            }[level.kind]  # fmt: skip
            nodes = [[entry for entry in group if entry[1][level.axis] == c] for c in kept]
            crd += kept if level.stored else []
        counts.append(len(nodes))
        below += nodes
    pos = positions(np.array(counts, np.int64)) if level.kind in ("compressed", "nonunique", "sliced") else None
    stored = Stored(
        nodes=len(below),
        size=extent if level.kind == "dense" else 0,
        pos=pos,
        crd=encode(np.array(crd, np.int64), level, pos) if level.stored else None,
    )
    return stored, below


def pack(a: Any, fmt: Format) -> Packed:
    """Store a matrix in a format, as `sparseflow.ops.formats.pack` does, without a limit to the padding.

    Raises:
        DataError: the matrix is malformed.
        UnsupportedError: levels that do not fit together, or coordinates that do not fit their width.
    """
    refused = refusal(fmt)
    if refused is not None:
        raise UnsupportedError(f"format {' '.join(fmt.axes)}: {refused.reason}")
    a = canonical_csr(a)
    rows, columns = orders_of(a, fmt)
    axes = axis_coordinates(a, fmt, (rows, columns))
    all_entries = [(n, {axis: int(c[n]) for axis, c in axes.items()}) for n in range(a.nnz)]
    all_entries.sort(key=lambda entry: [entry[1][axis] for axis in fmt.axes])
    sizes = extents(fmt, a.shape, int(axes["p"].max(initial=-1)) + 1)
    groups, levels = [all_entries], []
    for level in fmt.levels:
        stored, groups = _grown(level, groups, sizes.get(level.axis, 0))
        levels.append(stored)
    values, slots = np.zeros(len(groups), a.dtype), np.zeros(a.nnz, np.int64)
    for slot, group in enumerate(groups):
        for n, _ in group:
            values[slot], slots[n] = a.data[n], slot
    return Packed(
        format=fmt, shape=a.shape, levels=tuple(levels), values=values, slots=slots,
        row_order=None if rows is None else rows.astype(np.int32),
        column_order=None if columns is None else columns.astype(np.int32),
    )  # fmt: skip


def children(packed: Packed, n: int, parent: int) -> Iterator[tuple[int, int]]:
    """Yield coordinate and node of each child that a node has at level `n`, in order."""
    level, stored = packed.format.levels[n], packed.levels[n]
    if level.kind == "dense":
        yield from ((c, parent * stored.size + c) for c in range(stored.size))
    elif level.kind == "sliced":
        assert stored.pos is not None
        first, end = int(stored.pos[parent]), int(stored.pos[parent + 1])
        yield from ((node - first, node) for node in range(first, end))
    elif stored.pos is None:
        assert stored.crd is not None
        yield int(stored.crd[parent]), parent
    else:
        assert stored.crd is not None
        before = 0
        for node in range(int(stored.pos[parent]), int(stored.pos[parent + 1])):
            before = int(stored.crd[node]) + (before if level.delta else 0)
            yield before, node


def entries(packed: Packed) -> Iterator[tuple[int, int, int]]:
    """Yield row, column and slot of every slot inside the matrix, padding too, in the matrix's own order of rows."""
    yield from _below(packed, 0, 0, {})


def _below(packed: Packed, n: int, node: int, axes: dict[str, int]) -> Iterator[tuple[int, int, int]]:
    if n < len(packed.levels):
        for c, child in children(packed, n, node):
            yield from _below(packed, n + 1, child, {**axes, packed.format.levels[n].axis: c})
        return
    place = inside(packed, axes)
    if place is not None:
        yield *place, node


def inside(packed: Packed, axes: dict[str, int]) -> tuple[int, int] | None:
    """Return the row and column of the matrix that a leaf stands for, or None where it lies outside."""
    i, k = resolve(packed.format, axes)
    if not (0 <= i < packed.shape[0] and 0 <= k < packed.shape[1]):
        return None
    row = i if packed.row_order is None else int(packed.row_order[i])
    return row, k if packed.column_order is None else int(packed.column_order[k])
