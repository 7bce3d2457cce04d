"""Draws formats and schedules that are valid by construction."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparseflow.ops.codegen.einsum import PRODUCTS
from sparseflow.ops.codegen.schedule import PARTITIONS, Schedule, parallel_axes, streams, vector_axis
from sparseflow.ops.formats import Format, Level, Reorder, dia, ell, refusal, sell
from sparseflow.ops.formats.format import KINDS
from sparseflow.ops.formats.pack import MOST_FILL

__all__ = ["Facts", "sample"]

_INNER = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What sampling has to know of a matrix.

    Args:
        rows: of the matrix.
        columns: of the matrix.
        nnz: entries.
        longest: entries of the longest row.
        diagonals: how many hold an entry.
    """

    rows: int
    columns: int
    nnz: int
    longest: int
    diagonals: int

    @classmethod
    def of(cls, a: Any) -> "Facts":
        """Return those of a scipy.sparse.csr_array; one pass over its entries."""
        lengths = np.diff(a.indptr)
        rows = np.repeat(np.arange(a.shape[0]), lengths)
        return cls(
            rows=a.shape[0], columns=a.shape[1], nnz=a.nnz, longest=int(lengths.max(initial=0)),
            diagonals=len(np.unique(a.indices - rows)),
        )  # fmt: skip

    def fits(self, fmt: Format) -> bool:
        """Tell whether no level can have more nodes than `pack` takes, whatever the pattern."""
        r, c = fmt.rows_inner, fmt.columns_inner
        sizes = {
            "i": self.rows, "i0": -(-self.rows // r), "i1": r, "k": self.columns, "k0": -(-self.columns // c), "k1": c,
            "p": self.longest, "d": self.diagonals,
        }  # fmt: skip
        most = MOST_FILL * max(self.nnz, 1) + self.rows + self.columns + r + c
        nodes = 1
        for level in fmt.levels:
            if level.kind in ("dense", "sliced"):
                nodes *= sizes[level.axis]
            elif level.kind == "nonunique":
                nodes = self.nnz
            elif level.kind == "compressed":
                nodes = min(nodes * sizes[level.axis], self.nnz)
            if nodes > most:
                return False
        return True


def _pick(rng: np.random.Generator, choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _interleaved(rng: np.random.Generator, *runs: tuple[str, ...]) -> tuple[str, ...]:
    turns = rng.permutation([n for n, run in enumerate(runs) for _ in run])
    left = [iter(run) for run in runs]
    return tuple(next(left[int(n)]) for n in turns)


def _levels(rng: np.random.Generator, facts: Facts) -> Format:
    split_i, split_k = rng.random() < 0.5, rng.random() < 0.5
    axes = _interleaved(rng, ("i0", "i1") if split_i else ("i",), ("k0", "k1") if split_k else ("k",))
    fmt = Format(
        levels=tuple(Level(axis=axis, kind="compressed") for axis in axes),
        rows_inner=_pick(rng, _INNER) if split_i else 1,
        columns_inner=_pick(rng, _INNER) if split_k else 1,
    )
    for n, axis in enumerate(axes):
        options = []
        for kind in KINDS:
            levels = (*fmt.levels[:n], Level(axis=axis, kind=kind), *fmt.levels[n + 1 :])
            changed = replace(fmt, levels=levels)
            if refusal(changed) is None and facts.fits(changed):
                options.append(changed)
        fmt = _pick(rng, options) if options else fmt
    return fmt


def _format(rng: np.random.Generator, facts: Facts) -> Format:
    named = [dia(), ell(), sell(_pick(rng, (4, 8, 16, 32)), _pick(rng, (0, 1, 64, 256, 1024)))]
    fitting = [fmt for fmt in named if facts.fits(fmt)]
    fmt: Format = _pick(rng, fitting) if fitting and rng.random() < 0.3 else _levels(rng, facts)
    if fmt.rows is None and rng.random() < 0.1:
        fmt = replace(fmt, rows=Reorder(rule="length", window=_pick(rng, (0, 64, 1024))))
    extent = max(facts.rows, facts.columns)
    levels = tuple(
        replace(
            level,
            bits=16 if level.stored and extent < 2**15 and rng.random() < 0.3 else 32,
            delta=level.kind in ("compressed", "nonunique") and rng.random() < 0.2,
        )
        for level in fmt.levels
    )
    return replace(fmt, levels=levels)


def sample(op: str, facts: Facts, rng: np.random.Generator, *, threads: int = 2) -> tuple[Format, Schedule]:
    """Draw a format and a schedule for a product.

    Axes are split or not and put in any order in which outer halves come first; each level gets one of the kinds that
    fit those above it and the padding that `pack` takes; loops over j fall anywhere between; hints are drawn from those
    that are valid. Three draws of ten are DIA, ELL or SELL where these fit.

    Args:
        op: "spmv", "spmm" or "sddmm".
        facts: of the matrix.
        rng: source of randomness.
        threads: of the schedule.
    """
    fmt = _format(rng, facts)
    split_j = PRODUCTS[op].dense and rng.random() < 0.5
    dense: tuple[str, ...] = ("j0", "j1") if split_j else ("j",)
    order = _interleaved(rng, fmt.axes, dense if PRODUCTS[op].dense else ())
    inner = _pick(rng, _INNER) if split_j else 1
    safe = [axis for axis in order if axis in parallel_axes(op, fmt)]
    parallel = safe[0] if safe and rng.random() < 0.8 else None
    lanes = vector_axis(fmt, order)
    vector = lanes if lanes != parallel and rng.random() < 0.7 else None
    plain = {level.axis for level in fmt.levels if level.kind == "dense"} | set(dense)
    loops = [axis for axis in order if axis in plain and axis not in (parallel, vector)]
    unroll = _pick(rng, loops) if loops and rng.random() < 0.5 else None
    by_entries = parallel is not None and parallel == order[0] == fmt.axes[0]
    schedule = Schedule(
        order=order,
        inner=inner,
        parallel=parallel,
        partition=_pick(rng, PARTITIONS if by_entries else PARTITIONS[:2]),
        chunk=2 ** int(rng.integers(10)),
        threads=threads,
        vector=vector,
        unroll=unroll,
        factor=_pick(rng, (2, 4, 8)) if unroll is not None else 1,
        tile=_pick(rng, (1, 2, 4, 8)) if op == "spmm" and vector in dense else 1,
        prefetch=_pick(rng, (0, 0, 8, 32)) if any(level.stored for level in fmt.levels) else 0,
        stream=streams(op, fmt) and rng.random() < 0.3,
        panel=inner * _pick(rng, (0, 0, 1, 4)) if PRODUCTS[op].dense else 0,
    )
    return fmt, schedule
