"""The Electricity Transformer Temperature series: ETTh1 ships, the others are read from a folder or file.

Source: H. Zhou et al., Informer, AAAI 2021; github.com/zhouhaoyi/ETDataset, CC BY-ND 4.0.
"""

import os
from pathlib import Path

from sparseflow.data.csv_series import Series, csv_series
from sparseflow.errors import ConfigError, DataError

__all__ = ["ETT", "ett", "ett_ends"]

ETT = ("ETTh1", "ETTh2", "ETTm1", "ETTm2")
_HOURS = 30 * 24


def ett(name: str = "ETTh1", path: str | os.PathLike[str] | None = None) -> Series:
    """Load one of the four series, 7 variates each: hourly (h) or every 15 minutes (m), two years.

    Args:
        name: one of `ETT`, in any case.
        path: the file, or a folder with `{name}.csv`; None for the ETTh1 that ships.

    Raises:
        ConfigError: no such series.
        DataError: the file is missing or damaged, or too short.

    >>> ett().values.shape
    (17420, 7)
    """
    known = _known(name)
    if path is None:
        file = Path(__file__).parents[1] / "assets" / "ett" / f"{known}.csv"
        if not file.is_file():
            raise DataError(
                f"{known} does not ship with sparseflow; give the folder that holds {known}.csv of "
                "https://github.com/zhouhaoyi/ETDataset (ETT-small)"
            )
    else:
        file = Path(path) / f"{known}.csv" if Path(path).is_dir() else Path(path)
    series = csv_series(file, name=known)
    if len(series) < ett_ends(known)[-1]:
        raise DataError(f"{file} holds {len(series)} readings; {known} has at least {ett_ends(known)[-1]}")
    return series


def ett_ends(name: str) -> tuple[int, int, int]:
    """Return where train, val and test end: after 12, 16 and 20 months of 30 days.

    Args:
        name: one of `ETT`, in any case.

    Raises:
        ConfigError: no such series.

    >>> ett_ends("ETTh1"), ett_ends("ETTm1")
    ((8640, 11520, 14400), (34560, 46080, 57600))
    """
    month = _HOURS * (4 if "m" in _known(name)[3:] else 1)
    return 12 * month, 16 * month, 20 * month


def _known(name: str) -> str:
    for known in ETT:
        if known.lower() == name.lower():
            return known
    raise ConfigError(f"no series {name!r}; there are {', '.join(ETT)}")
