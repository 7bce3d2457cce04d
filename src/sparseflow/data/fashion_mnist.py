"""Fashion-MNIST from its four idx files.

Source: Xiao, Rasul, Vollgraf, arXiv 1708.07747 (MIT licence).
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sparseflow.data.images import ImageSet
from sparseflow.errors import ConfigError, DataError

__all__ = ["fashion_mnist"]

_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_COUNTS = {"train": 60000, "test": 10000}
_DEBIAN = "/usr/share/datasets/fashion-mnist"


def fashion_mnist(path: str | os.PathLike[str] = _DEBIAN, split: str = "train") -> ImageSet:
    """Load Fashion-MNIST: 28×28 grey images of ten kinds of clothing.

    Args:
        path: folder with `train-images-idx3-ubyte.gz` and the other three; the default
            is where Debian's package `dataset-fashion-mnist` puts them.
        split: "train" (60,000 images) or "test" (10,000).

    Raises:
        ConfigError: unknown split.
        DataError: a file is missing or damaged, or the number of images is another.
    """
    if split not in _COUNTS:
        raise ConfigError(f"split is {split!r}; expected 'train' or 'test'")
    root, stem = Path(path), "train" if split == "train" else "t10k"
    images = _idx(root / f"{stem}-images-idx3-ubyte.gz", 3)
    labels = _idx(root / f"{stem}-labels-idx1-ubyte.gz", 1)
    if images.shape != (_COUNTS[split], 28, 28) or labels.shape != (_COUNTS[split],):
        raise DataError(
            f"{root}: {split} images {images.shape} and labels {labels.shape}; expected {_COUNTS[split]} of 28×28"
        )
    return ImageSet(
        name="fashion_mnist",
        split=split,
        images=torch.from_numpy(images[:, None].copy()),
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=_CLASSES,
        mean=(0.2860406,),
        std=(0.3530242,),
    )


def _idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    try:
        with gzip.open(path) as f:
            raw = f.read()
    except FileNotFoundError as e:
        raise DataError(
            f"{path} is missing; install Debian's package dataset-fashion-mnist or give the folder that holds it"
        ) from e
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"{path} is damaged: {e}") from e
    header = 4 + 4 * ndim
    if len(raw) < header or raw[:4] != bytes((0, 0, 8, ndim)):
        raise DataError(f"{path} is no idx file of {ndim} dimensions of bytes")
    shape = struct.unpack(f">{ndim}I", raw[4:header])
    if len(raw) - header != math.prod(shape):
        raise DataError(f"{path} holds {len(raw) - header} bytes of data; its header says {math.prod(shape)}")
    return np.frombuffer(raw, np.uint8, offset=header).reshape(shape)
