"""Time series in CSV files: one row a reading, one column a variate, with or without header and dates."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, DataError

__all__ = ["Series", "csv_series"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Readings of several variates at the same times.

    Args:
        name: of the data set.
        values: `[T, V]` float64, finite.
        columns: names of the V variates.
        dates: the T dates as they stand in the file; None without.

    Raises:
        DataError: shapes that disagree, no reading, or a value that is not finite.
    """

    name: str
    values: NDArray[np.float64]
    columns: tuple[str, ...]
    dates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.values.ndim != 2 or not self.values.size:
            raise DataError(f"{self.name}: values have shape {self.values.shape}; expected [T, V] with readings")
        if len(self.columns) != self.values.shape[1]:
            raise DataError(f"{self.name}: {len(self.columns)} names for {self.values.shape[1]} columns")
        if self.dates is not None and len(self.dates) != len(self.values):
            raise DataError(f"{self.name}: {len(self.dates)} dates for {len(self.values)} rows")
        if not (finite := np.isfinite(self.values)).all():
            row, column = np.argwhere(~finite)[0]
            raise DataError(
                f"{self.name}, reading {row}, column {self.columns[column]}: {self.values[row, column]} is not finite"
            )

    def __len__(self) -> int:
        """Return the number of readings T."""
        return len(self.values)

    def select(self, columns: tuple[str, ...]) -> "Series":
        """Return the series of some columns, in the order given.

        Raises:
            ConfigError: no column of a name, or none is named.
        """
        if unknown := [c for c in columns if c not in self.columns]:
            raise ConfigError(f"{self.name} has no column {', '.join(unknown)}; there are {', '.join(self.columns)}")
        if not columns:
            raise ConfigError(f"no column of {self.name} is named; there are {', '.join(self.columns)}")
        index = [self.columns.index(c) for c in columns]
        return Series(name=self.name, values=self.values[:, index], columns=columns, dates=self.dates)


def csv_series(path: str | os.PathLike[str], *, name: str | None = None, missing: float | None = None) -> Series:
    """Read a series from comma-separated text.

    The first row is a header if a column holds a number below it, but not in it. The first column may hold dates; all
    others hold numbers.

    Args:
        path: the file.
        name: of the data set; None for the file's stem.
        missing: number that stands for a missing reading, as -9999; such cells, empty ones and NaN take the last
            reading before them, or the first one after them at the start. None refuses them.

    Raises:
        DataError: unreadable, ragged, or a cell that is no finite number; names line and column.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read {path}: {e}") from e
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise DataError(f"{path} is empty; expected one row a reading, one column a variate")
    first = [cell.strip() for cell in lines[0].split(",")]
    second = [cell.strip() for cell in lines[1].split(",")] if len(lines) > 1 else []
    header = any(not _number(a) and _number(b) for a, b in zip(first, second, strict=False)) or not any(
        _number(cell) for cell in first
    )
    body, top = (lines[1:], 2) if header else (lines, 1)
    if not body:
        raise DataError(f"{path} holds a header and no reading")
    dated = not _number(body[0].split(",", 1)[0]) and bool(body[0].split(",", 1)[0].strip())
    width = len(body[0].split(",")) - dated
    if width < 1:
        raise DataError(f"{path}, line {top}: no column of numbers")
    columns = tuple(first[dated:]) if header else tuple(f"v{i}" for i in range(width))
    if len(columns) != width or len(set(columns)) != width:
        raise DataError(f"{path}: the header names {len(set(columns))} columns, and the rows have {width}")
    values = _values(path, body, top, columns, dated, missing)
    dates = tuple(line.split(",", 1)[0].strip() for line in body) if dated else None
    return Series(name=name or path.stem, values=values, columns=columns, dates=dates)


def _number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _values(
    path: Path, body: list[str], top: int, columns: tuple[str, ...], dated: bool, missing: float | None
) -> NDArray[np.float64]:
    use = range(int(dated), len(columns) + dated)
    try:
        values = np.loadtxt(body, np.float64, delimiter=",", usecols=use, ndmin=2, comments=None)
        # It reads only the columns asked for, so a row with more of them would pass.
        whole = len(values) == len(body) and all(line.count(",") == len(use) - 1 + dated for line in body)
    except ValueError:
        whole = False
    if not whole:
        values = np.array([_row(path, top + i, line, columns, dated) for i, line in enumerate(body)])
    absent = ~np.isfinite(values) if missing is None else np.isnan(values) | (values == missing)
    if absent.any():
        row, column = np.argwhere(absent)[0]
        if missing is None:
            raise DataError(
                f"{path}, line {top + row}, column {columns[column]}: a reading is missing or not finite;"
                " give missing (as -9999) to fill such cells with the reading before"
            )
        values = _filled(path, values, absent, columns)
    return values


def _row(path: Path, line: int, text: str, columns: tuple[str, ...], dated: bool) -> list[float]:
    cells = text.split(",")[dated:]
    if len(cells) != len(columns):
        raise DataError(f"{path}, line {line}: {len(cells)} numbers; expected {len(columns)}")
    row = []
    for name, cell in zip(columns, cells, strict=True):
        try:
            row.append(float(cell) if cell.strip() else float("nan"))
        except ValueError as e:
            raise DataError(f"{path}, line {line}, column {name}: {cell.strip()!r} is no number") from e
    return row


def _filled(
    path: Path, values: NDArray[np.float64], absent: NDArray[np.bool_], columns: tuple[str, ...]
) -> NDArray[np.float64]:
    if absent.all(0).any():
        raise DataError(f"{path}: column {columns[int(absent.all(0).argmax())]} holds no reading at all")
    rows = np.where(absent, -1, np.arange(len(values))[:, None])
    last = np.maximum.accumulate(rows, 0)
    last = np.where(last < 0, (~absent).argmax(0), last)
    return np.asarray(np.take_along_axis(values, last, 0), np.float64)
