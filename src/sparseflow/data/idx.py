"""Arrays of bytes in the idx format of MNIST and its kin."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import DataError

__all__ = ["read_idx"]


def read_idx(path: Path, ndim: int, *, hint: str = "give the folder that holds it") -> NDArray[np.uint8]:
    """Return the array of a gzipped idx file.

    Args:
        path: the file.
        ndim: its number of dimensions.
        hint: what to do where it is missing, for the error.

    Raises:
        DataError: missing, damaged, or of other than `ndim` dimensions of bytes.
    """
    try:
        with gzip.open(path) as f:
            raw = f.read()
    except FileNotFoundError as e:
        raise DataError(f"{path} is missing; {hint}") from e
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"{path} is damaged: {e}") from e
    header = 4 + 4 * ndim
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, ndim)):
        raise DataError(f"{path} is no idx file of {ndim} dimensions of bytes")
    shape = struct.unpack(f">{ndim}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise DataError(f"{path} holds {len(raw) - header} bytes of data; its header says {math.prod(shape)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
