"""Images in parquet files, as Hugging Face's datasets lay them out: a column of encoded images, one of labels."""

import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sparseflow.errors import DataError

__all__ = ["find_parquet", "read_parquet"]

_IMAGES = ("img", "image")
_LABELS = ("label", "labels", "fine_label")


def find_parquet(root: Path, split: str) -> list[Path]:
    """Return the files of a split in order: `{split}-00000-of-00001.parquet` or `{split}.parquet`, one folder down too.

    Args:
        root: the folder.
        split: "train" or "test".
    """
    for pattern in (f"{split}*.parquet", f"*/{split}*.parquet"):
        found = sorted(root.glob(pattern))
        if found:
            return found
    return []


def read_parquet(paths: Sequence[Path], shape: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Read images and labels.

    Args:
        paths: the files, in order.
        shape: height and width that every image must have.

    Returns:
        Images `[N, 3, H, W]` and labels `[N]`.

    Raises:
        DataError: pyarrow is not installed, or a file is damaged, has other columns or images of another size.
    """
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as e:
        raise DataError(f"{paths[0]} needs pyarrow to be read; install it with: pip install sparseflow[parquet]") from e
    images: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    for path in paths:
        try:
            table: Any = parquet.read_table(path)
        except (OSError, ValueError) as e:
            raise DataError(f"{path} is damaged or no parquet file: {e}") from e
        image = next((n for n in _IMAGES if n in table.column_names), None)
        label = next((n for n in _LABELS if n in table.column_names), None)
        if image is None or label is None:
            found = ", ".join(table.column_names)
            raise DataError(f"{path} has columns {found}; expected {' or '.join(_IMAGES)}, and {' or '.join(_LABELS)}")
        images += [_decoded(path, row, cell, shape) for row, cell in enumerate(table.column(image).to_pylist())]
        labels += [int(value) for value in table.column(label).to_pylist()]
    if not images:
        raise DataError(f"{paths[0]} holds no image")
    return np.stack(images), np.array(labels, np.int64)


def _decoded(path: Path, row: int, cell: Any, shape: tuple[int, int]) -> NDArray[np.uint8]:
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(data, bytes):
        raise DataError(f"{path}, row {row}: no bytes of an image")
    try:
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as e:
        raise DataError(f"{path}, row {row}: damaged or no image: {e}") from e
    if pixels.shape[:2] != shape:
        raise DataError(f"{path}, row {row}: {pixels.shape[1]}×{pixels.shape[0]}; expected {shape[1]}×{shape[0]}")
    return pixels.transpose(2, 0, 1)
