"""Sparse matrices from files: Matrix Market, patterns in .npz, and the .csr files of AutoSparse."""

import gzip
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from scipy import io, sparse

from sparseflow.errors import DataError

__all__ = ["read_matrix"]

_HEAD = 3


def read_matrix(path: str | Path, *, seed: int = 0) -> Any:
    """Read a sparse matrix.

    Args:
        path: a file of one of three kinds, by its ending. ".mtx", also with ".gz": Matrix Market in coordinates, real,
            integer or pattern; symmetric ones are made whole, entries of one place are added. ".npz": a pattern as
            arrays `shape`, `rl` (length of each row) and `dd` (differences of the columns over all rows), or what
            scipy.sparse.save_npz wrote. ".csr": int32 rows, columns, non-zeros, then row positions, then columns.
        seed: of the standard normal values that patterns get.

    Returns:
        scipy.sparse.csr_array with sorted columns and values of float32.

    Raises:
        DataError: no such file, another ending, or a malformed file; says which line of a text, or which entry.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no file {path}")
    name = path.name.removesuffix(".gz")
    readers = {".mtx": _matrix_market, ".npz": _npz, ".csr": _autosparse}
    reader = readers.get(Path(name).suffix)
    if reader is None or (name != path.name and not name.endswith(".mtx")):
        raise DataError(f"{path} ends in none of .mtx, .mtx.gz, .npz and .csr")
    a = reader(path, np.random.default_rng(seed))
    if not np.isfinite(a.data).all():
        raise DataError(f"{path}: entry {int(np.argmin(np.isfinite(a.data)))} is not finite in float32")
    a.sort_indices()
    return a


def _matrix_market(path: Path, rng: np.random.Generator) -> Any:
    try:
        _, _, _, layout, field, _ = io.mminfo(path)
    except (ValueError, OverflowError, OSError, EOFError) as e:
        where = "" if str(e).startswith("Line") else f"Line {_line_of_sizes(path)}: "
        raise DataError(f"{path} is not a Matrix Market file: {where}{e}") from e
    if layout != "coordinate" or field == "complex":
        raise DataError(f"{path} holds {field} values as {layout}; expected real ones in coordinates")
    try:
        whole = sparse.csr_array(io.mmread(path, spmatrix=False))
    except (ValueError, OverflowError, OSError, EOFError) as e:
        raise DataError(f"{path} is malformed: {e}") from e
    whole.sum_duplicates()
    with np.errstate(over="ignore"):
        a = whole.astype(np.float32)
    if field == "pattern":
        a.data = rng.standard_normal(a.nnz).astype(np.float32)
    return a


def _line_of_sizes(path: Path) -> int:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as lines:
            return next((n for n, line in enumerate(lines, 1) if line.strip() and not line.startswith(b"%")), 1)
    except (OSError, EOFError):
        return 1


def _npz(path: Path, rng: np.random.Generator) -> Any:
    try:
        with np.load(path) as held:
            if "format" in held.files:
                whole = sparse.csr_array(sparse.load_npz(path), dtype=np.float32)
                whole.sum_duplicates()
                return whole
            shape, lengths, steps = (held[key] for key in ("shape", "rl", "dd"))
    except (OSError, KeyError, ValueError, BadZipFile, EOFError) as e:
        raise DataError(f"{path} does not hold arrays shape, rl and dd, nor a matrix of scipy: {e}") from e
    if shape.shape != (2,) or lengths.shape != (shape[0],) or (lengths < 0).any():
        raise DataError(
            f"{path}: rl has shape {list(lengths.shape)}; expected a length for each of {shape.tolist()} rows"
        )
    positions = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    return _pattern(path, (int(shape[0]), int(shape[1])), positions, np.cumsum(steps, dtype=np.int64), rng)


def _autosparse(path: Path, rng: np.random.Generator) -> Any:
    if path.stat().st_size % 4:
        raise DataError(f"{path} has {path.stat().st_size} bytes; expected whole numbers of 4")
    numbers = np.fromfile(path, "<i4").astype(np.int64)
    if len(numbers) < _HEAD or (numbers[:_HEAD] < 0).any():
        raise DataError(f"{path} does not begin with numbers of rows, columns and non-zeros")
    rows, columns, nnz = (int(n) for n in numbers[:_HEAD])
    if len(numbers) != _HEAD + rows + 1 + nnz:
        raise DataError(
            f"{path} holds {len(numbers)} numbers; {rows} rows and {nnz} non-zeros make {_HEAD + rows + 1 + nnz}"
        )
    positions = numbers[_HEAD : _HEAD + rows + 1]
    return _pattern(path, (rows, columns), positions, numbers[_HEAD + rows + 1 :], rng)


def _pattern(path: Path, shape: tuple[int, int], positions: Any, columns: Any, rng: np.random.Generator) -> Any:
    if positions[0] != 0 or positions[-1] != len(columns) or (np.diff(positions) < 0).any():
        raise DataError(f"{path}: rows take {int(positions[-1])} entries in all, the file holds {len(columns)}")
    outside = np.flatnonzero((columns < 0) | (columns >= shape[1]))
    if len(outside):
        n = int(outside[0])
        raise DataError(f"{path}: entry {n} lies in column {columns[n]} of {shape[1]}")
    rows = np.repeat(np.arange(shape[0]), np.diff(positions))
    order = np.lexsort((columns, rows))
    twice = np.flatnonzero((np.diff(rows[order]) == 0) & (np.diff(columns[order]) == 0))
    if len(twice):
        n = order[twice[0]]
        raise DataError(f"{path}: row {rows[n]} holds column {columns[n]} twice")
    return sparse.csr_array(
        (rng.standard_normal(len(columns)).astype(np.float32), columns[order], positions), shape=shape
    )
