"""Schedules as AutoSparse writes them: one line of numbers and names."""

from dataclasses import dataclass

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.ops.codegen.einsum import PRODUCTS
from sparseflow.ops.codegen.schedule import Schedule
from sparseflow.ops.formats import Format, Level

__all__ = ["Line", "line_of", "parse"]

_MODES = ("dense", "compressed", "nonunique", "singleton", "singleton_nonunique")
_SWAPPED = str.maketrans("jk", "kj")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of AutoSparse's data.

    The primitives, in the order of the line: fsplit (how i and k are split), freorder (order of the levels), fmode
    (kind of each), lsplit (how j is split), lreorder (order of the loops), parallel, vectorize, unroll, then threads
    and chunk.

    Args:
        op: "spmv", "spmm" or "sddmm"; of the last one the line calls our j k, and our k j.
        format: fsplit, freorder and fmode.
        schedule: the others.
        outer: nominal sizes of the outer halves of i, k and j; kernels take theirs from the matrix.
        latency_ms: what was measured; None if the line ends before it.
    """

    op: str
    format: Format
    schedule: Schedule
    outer: tuple[int, ...]
    latency_ms: float | None = None

    def __str__(self) -> str:
        """Return the line."""
        f, s = self.format, self.schedule
        inner = {"i": f.rows_inner, "k": f.columns_inner, "j": s.inner}
        outer = dict(zip("ikj", self.outer, strict=False))
        splits = [f"{x} 2 {x}0 {outer[x]} {x}1 {inner[x]}" for x in outer]
        levels = f"A {len(f.levels)} {' '.join(f.axes)}"
        modes = "A " + f"{len(f.levels)} " + " ".join(f"{n.axis} {_MODES.index(n.kind)}" for n in f.levels)
        loops = f"{len(s.order)} {' '.join(s.order)} {s.parallel} {s.vector} {s.unroll} {s.factor if s.unroll else 0}"
        dense = " ".join([str(len(splits) - 2), *splits[2:]])
        text = f"2 {splits[0]} {splits[1]} 1 {levels} {modes} {dense} {loops} {s.threads} {s.chunk}"
        text = text if self.latency_ms is None else f"{text} {self.latency_ms!r}"
        return text.translate(_SWAPPED) if self.op == "sddmm" else text


class _Tokens:
    def __init__(self, text: str) -> None:
        self.words, self.at = text.split(), 0

    def word(self) -> str:
        self.at += 1
        if self.at > len(self.words):
            raise DataError(f"the line ends after {len(self.words)} words")
        return self.words[self.at - 1]

    def number(self) -> int:
        word = self.word()
        if not word.isdecimal():
            raise DataError(f"word {self.at} is {word!r}; expected a number")
        return int(word)

    def expect(self, *wanted: str) -> None:
        for want in wanted:
            word = self.word()
            if word != want:
                raise DataError(f"word {self.at} is {word!r}; expected {want!r}")

    def split(self, axis: str) -> tuple[int, int]:
        self.expect(axis, "2", axis + "0")
        outer = self.number()
        self.expect(axis + "1")
        return outer, self.number()

    def name(self) -> str | None:
        word = self.word()
        return None if word == "None" else word


def parse(text: str, op: str) -> Line:
    """Read a line.

    Args:
        text: the line, with or without a latency in milliseconds at its end.
        op: "spmv", "spmm" or "sddmm"; the line does not tell.

    Returns:
        What the line says; `sparseflow.ops.codegen.refusal` tells whether it can be.

    Raises:
        DataError: another form, naming the word.
        ConfigError: no such product.

    >>> line = parse("2 i 2 i0 256 i1 16 k 2 k0 4096 k1 16 1 A 4 i0 i1 k0 k1 A 4 i0 1 i1 1 k0 1 k1 1 1 j 2 j0 2 j1 64 "
    ...              "6 j0 i0 i1 k0 k1 j1 j0 j1 None 0 128 512 445.855559", "spmm")
    >>> line.format.rows_inner, line.schedule.vector, line.latency_ms
    (16, 'j1', 445.855559)
    """
    if op not in PRODUCTS:
        raise ConfigError(f"no product {op!r}; there are {', '.join(PRODUCTS)}")
    tokens = _Tokens(text.translate(_SWAPPED) if op == "sddmm" else text)
    tokens.expect("2")
    sizes = [tokens.split("i"), tokens.split("k")]
    tokens.expect("1", "A", "4")
    axes = [tokens.word() for _ in range(4)]
    tokens.expect("A", "4")
    kinds = []
    for axis in axes:
        tokens.expect(axis)
        mode = tokens.number()
        if mode >= len(_MODES):
            raise DataError(f"word {tokens.at} is {mode}; modes are 0 to {len(_MODES) - 1}")
        kinds.append(_MODES[mode])
    dense = PRODUCTS[op].dense
    tokens.expect("1" if dense else "0")
    sizes += [tokens.split("j")] if dense else []
    order = tuple(tokens.word() for _ in range(tokens.number()))
    parallel, vector, unroll, factor = tokens.name(), tokens.name(), tokens.name(), tokens.number()
    threads, chunk = tokens.number(), tokens.number()
    latency = tokens.word() if tokens.at < len(tokens.words) else None
    if tokens.at < len(tokens.words):
        raise DataError(f"{len(tokens.words) - tokens.at} words follow the latency")
    try:
        levels = tuple(Level(axis=axis, kind=kind) for axis, kind in zip(axes, kinds, strict=True))
        fmt = Format(levels=levels, rows_inner=sizes[0][1], columns_inner=sizes[1][1])
        schedule = Schedule(
            order=order, inner=sizes[2][1] if dense else 1, parallel=parallel, partition="dynamic", chunk=chunk,
            threads=threads, vector=vector, unroll=unroll, factor=max(factor, 1),
        )  # fmt: skip
        outer = tuple(size for size, _ in sizes)
        return Line(
            op=op, format=fmt, schedule=schedule, outer=outer, latency_ms=None if latency is None else float(latency)
        )
    except ValueError as e:
        raise DataError(f"not a line of AutoSparse: {e}") from e


def line_of(op: str, fmt: Format, schedule: Schedule, shape: tuple[int, int], n: int = 1) -> Line:
    """Return a format and a schedule as a line.

    Args:
        op: "spmv", "spmm" or "sddmm".
        fmt: the format.
        schedule: the schedule.
        shape: of the matrix; nominal sizes are those of the largest powers of two in it.
        n: size of j.

    Raises:
        UnsupportedError: AutoSparse has no word for something of it; says which.
    """
    f, s = fmt, schedule
    sizes = {"i": (shape[0], f.rows_inner), "k": (shape[1], f.columns_inner)}
    sizes |= {"j": (n, s.inner)} if PRODUCTS[op].dense else {}
    missing = {
        "levels other than i0, i1, k0 and k1": sorted(f.axes) != ["i0", "i1", "k0", "k1"],
        "sliced levels": any(level.kind == "sliced" for level in f.levels),
        "narrow coordinates": any(level.bits != 32 or level.delta for level in f.levels),
        "orders of rows and columns": f.rows is not None or f.columns is not None,
        "an axis j that is not split": "j" in s.order,
        "sizes that are no powers of two": any(inner & (inner - 1) for _, inner in sizes.values()),
        "a partition other than dynamic": s.partition != "dynamic",
        "tiles, prefetches, panels and stores past caches": s.tile > 1 or s.prefetch > 0 or s.panel > 0 or s.stream,
    }
    for what, found in missing.items():
        if found:
            raise UnsupportedError(f"AutoSparse has no words for {what}")
    outer = tuple(max((1 << (max(size, 1).bit_length() - 1)) // inner, 1) for size, inner in sizes.values())
    return Line(op=op, format=fmt, schedule=schedule, outer=outer)
