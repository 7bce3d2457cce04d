"""Format: the levels by which a sparse matrix is stored, as data."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir._json import canonical, digest

__all__ = ["AXES", "KINDS", "Format", "Level", "Reorder"]

AXES = ("i", "i0", "i1", "k", "k0", "k1", "d", "p")
KINDS = ("dense", "compressed", "nonunique", "singleton", "singleton_nonunique", "sliced")
_RULES = ("length", "rcm")
_LARGEST_INNER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One level of storage: which coordinate it holds, and how.

    Args:
        axis: "i" the row, "k" the column; "i0", "i1" their parts i // r and i % r, "k0", "k1" k // c and k % c;
            "d" the diagonal k − i; "p" the rank of a non-zero among those of its row, in the order of columns.
        kind: "dense" every coordinate of the axis under every parent, none stored; "compressed" the coordinates that
            occur, once each, and where each parent's begin; "nonunique" the same, once for each non-zero; "singleton"
            one coordinate for each parent; "singleton_nonunique" the same, where a later level tells equal ones apart;
            "sliced" coordinates 0 to the largest under the parent, none stored but where each parent's begin.
        bits: width of stored coordinates, 16 or 32.
        delta: whether a coordinate is stored as its distance from the one before it under the same parent; the first
            of a parent as it is.

    Raises:
        ConfigError: another axis, kind or width, or a flag that is none.
    """

    axis: str
    kind: str = "dense"
    bits: int = 32
    delta: bool = False

    def __post_init__(self) -> None:
        """Check the fields one by one; what they mean together is checked by `refusal`."""
        if self.axis not in AXES:
            raise ConfigError(f"Level.axis is {self.axis!r}; expected one of {', '.join(AXES)}")
        if self.kind not in KINDS:
            raise ConfigError(f"Level.kind is {self.kind!r}; expected one of {', '.join(KINDS)}")
        if self.bits not in (16, 32):
            raise ConfigError(f"Level.bits is {self.bits!r}; expected 16 or 32")
        if not isinstance(self.delta, bool):
            raise ConfigError(f"Level.delta is {self.delta!r}; expected true or false")

    @property
    def stored(self) -> bool:
        """Whether coordinates are stored."""
        return self.kind not in ("dense", "sliced")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reorder:
    """A rule by which rows or columns are put into another order before they are stored.

    Args:
        rule: "length", those with the most non-zeros first, equal ones as they were; "rcm", reverse Cuthill-McKee of
            the pattern of A + Aᵀ, for square matrices.
        window: for "length", how many neighbours are sorted among themselves; 0 for all.

    Raises:
        ConfigError: another rule, or a window that does not fit it.
    """

    rule: str
    window: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.rule not in _RULES:
            raise ConfigError(f"Reorder.rule is {self.rule!r}; expected one of {', '.join(_RULES)}")
        if not isinstance(self.window, int) or self.window < 0 or (self.window and self.rule != "length"):
            raise ConfigError(f"Reorder.window is {self.window!r}; expected 0, or some rows for the rule 'length'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a matrix is stored: a tree of coordinates, one level for each depth, and a value for each leaf.

    Args:
        levels: from the root to the leaves; the order in which a kernel meets them.
        rows_inner: r, the size of "i1"; 1 where rows are not split.
        columns_inner: c, the size of "k1".
        rows: order of the rows; None for that of the matrix.
        columns: order of the columns.

    Raises:
        ConfigError: sizes out of range. Whether levels fit together is told by `refusal`.

    >>> f = Format(levels=(Level(axis="i"), Level(axis="k", kind="compressed", bits=16)))
    >>> Format.from_json(f.to_json()) == f
    True
    """

    levels: tuple[Level, ...]
    rows_inner: int = 1
    columns_inner: int = 1
    rows: Reorder | None = None
    columns: Reorder | None = None

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("rows_inner", "columns_inner"):
            size = getattr(self, name)
            if not isinstance(size, int) or not 1 <= size <= _LARGEST_INNER:
                raise ConfigError(f"Format.{name} is {size!r}; expected 1 to {_LARGEST_INNER}")

    @property
    def axes(self) -> tuple[str, ...]:
        """The axis of each level."""
        return tuple(level.axis for level in self.levels)

    @property
    def key(self) -> str:
        """Hash of the format."""
        return digest(asdict(self))

    def inner(self, axis: str) -> int:
        """Return the size of "i1" or "k1"."""
        return self.rows_inner if axis == "i1" else self.columns_inner

    def to_json(self) -> str:
        """Return the format as canonical JSON."""
        return canonical(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Format":
        """Read what `to_json` wrote.

        Raises:
            DataError: not JSON, or not the fields of a format.
            ConfigError: a field out of range.
        """
        try:
            return cls.from_dict(json.loads(text))
        except json.JSONDecodeError as e:
            raise DataError(f"not a format in JSON: {e}; write it with Format.to_json") from e

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "Format":
        """Read the fields from JSON values.

        Raises:
            DataError: not the fields of a format.
            ConfigError: a field out of range.
        """
        try:
            orders = {name: Reorder(**body[name]) if body.get(name) else None for name in ("rows", "columns")}
            return cls(**{**body, "levels": tuple(Level(**level) for level in body["levels"]), **orders})
        except (KeyError, TypeError, AttributeError) as e:
            raise DataError(f"not the fields of a format: {e}; write them with Format.to_json") from e
