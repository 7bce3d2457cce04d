"""Hybrid: a matrix as a sum of parts, each in the format that suits it."""

import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir._json import canonical, digest
from sparseflow.ops.formats.format import Format
from sparseflow.ops.formats.pack import MOST_FILL, axis_coordinates, canonical_csr, pack, positions, unpack
from sparseflow.ops.formats.packed import Packed

__all__ = ["Hybrid", "PackedHybrid", "Part", "pack_hybrid", "split_entries", "unpack_hybrid"]

_TAKES = ("diagonals", "blocks", "first", "rest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of a sum: which entries it takes of those left over by the parts before it, and its format.

    Args:
        format: how its entries are stored.
        take: "diagonals" those on diagonals filled to at least `share`, "blocks" those in blocks r × c of the format
            filled to at least `share`, "first" the first `most` of every row, "rest" all.
        share: for "diagonals" and "blocks", of the places of one.
        most: for "first".

    Raises:
        ConfigError: another rule, or a bound out of range.
    """

    format: Format
    take: str = "rest"
    share: float = 0.5
    most: int = 1

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.take not in _TAKES:
            raise ConfigError(f"Part.take is {self.take!r}; expected one of {', '.join(_TAKES)}")
        if not 0 < self.share <= 1:
            raise ConfigError(f"Part.share is {self.share!r}; expected above 0 and up to 1")
        if not isinstance(self.most, int) or self.most < 1:
            raise ConfigError(f"Part.most is {self.most!r}; expected a positive number")

    def takes(self, a: Any) -> NDArray[np.bool_]:
        """Tell for each entry of a CSR matrix whether the part takes it: bool `[nnz]`."""
        axes = axis_coordinates(a, self.format, (None, None))
        rows, columns = a.shape
        if self.take == "rest":
            return np.ones(a.nnz, bool)
        if self.take == "first":
            return axes["p"] < self.most
        if self.take == "diagonals":
            places, group, counts = np.unique(axes["d"], return_inverse=True, return_counts=True)
            room = np.minimum(rows, columns - places) - np.maximum(0, -places)
        else:
            across = -(-columns // self.format.columns_inner)
            _, group, counts = np.unique(axes["i0"] * across + axes["k0"], return_inverse=True, return_counts=True)
            room = np.full(len(counts), self.format.rows_inner * self.format.columns_inner)
        found: NDArray[np.bool_] = (counts >= self.share * room)[group]
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Hybrid:
    """A sum of formats.

    Args:
        parts: in the order in which they take entries; the last one, and no other, takes the rest.

    Raises:
        ConfigError: no part, or a rest that is missing or not the last.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        """Check that every entry is taken once."""
        if [part.take == "rest" for part in self.parts] != [False] * (len(self.parts) - 1) + [True]:
            raise ConfigError(f"parts take {[part.take for part in self.parts]}; expected 'rest' as the last one only")

    @property
    def key(self) -> str:
        """Hash of the sum."""
        return digest(asdict(self))

    def to_json(self) -> str:
        """Return the sum as canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Hybrid":
        """Read what `to_json` wrote.

        Raises:
            DataError: not JSON, or not the fields of a sum.
            ConfigError: a field out of range.
        """
        try:
            parts = json.loads(text)["parts"]
            return cls(parts=tuple(Part(**{**part, "format": Format.from_dict(part["format"])}) for part in parts))
        except (KeyError, TypeError, json.JSONDecodeError) as e:
            raise DataError(f"not a sum of formats: {e}; write it with Hybrid.to_json") from e


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedHybrid:
    """A matrix as a sum.

    Args:
        hybrid: the sum.
        parts: each part, packed.
        entries: int64 `[entries]` for each part, which entries of the CSR matrix it holds.
    """

    hybrid: Hybrid
    parts: tuple[Packed, ...]
    entries: tuple[NDArray[np.int64], ...]

    @property
    def bytes(self) -> int:
        """Bytes of all parts."""
        return sum(part.storage.bytes for part in self.parts)


def _chosen(a: Any, entries: NDArray[np.int64]) -> Any:
    rows = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))[entries]
    pos = positions(np.bincount(rows, minlength=a.shape[0]))
    return sparse.csr_array((a.data[entries], a.indices[entries], pos), shape=a.shape)


def split_entries(a: Any, hybrid: Hybrid) -> tuple[NDArray[np.int64], ...]:
    """Return for each part which entries of the matrix, in its CSR order, it holds: int64, ascending.

    Raises:
        DataError: the matrix is malformed.
    """
    a = canonical_csr(a)
    left, found = np.arange(a.nnz), []
    for part in hybrid.parts:
        taken = part.takes(_chosen(a, left))
        found.append(left[taken])
        left = left[~taken]
    return tuple(found)


def pack_hybrid(a: Any, hybrid: Hybrid, *, most_fill: float = MOST_FILL) -> PackedHybrid:
    """Store a matrix as a sum of formats.

    Args:
        a: scipy.sparse matrix, float32 or float64, without duplicate entries.
        hybrid: the sum.
        most_fill: as of `pack`, for each part.

    Raises:
        DataError: the matrix is malformed.
        UnsupportedError: a part cannot be stored in its format; says why.
    """
    a = canonical_csr(a)
    entries = split_entries(a, hybrid)
    parts = (pack(_chosen(a, e), p.format, most_fill=most_fill) for e, p in zip(entries, hybrid.parts, strict=True))
    return PackedHybrid(hybrid=hybrid, parts=tuple(parts), entries=entries)


def unpack_hybrid(packed: PackedHybrid) -> Any:
    """Return the matrix as CSR with sorted columns, as it was packed."""
    shape, total = packed.parts[0].shape, sum(len(e) for e in packed.entries)
    data, columns = np.empty(total, packed.parts[0].values.dtype), np.empty(total, np.int64)
    counts = np.zeros(shape[0], np.int64)
    for part, entries in zip(packed.parts, packed.entries, strict=True):
        a = unpack(part)
        data[entries], columns[entries] = a.data, a.indices
        counts += np.diff(a.indptr)
    return sparse.csr_array((data, columns, positions(counts)), shape=shape)
