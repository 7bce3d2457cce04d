"""Fashion-MNIST from its four idx files.

Source: Xiao, Rasul, Vollgraf, arXiv 1708.07747 (MIT licence).
"""

import os
from pathlib import Path

import numpy as np
import torch

from sparseflow.data.idx import read_idx
from sparseflow.data.images import ImageSet
from sparseflow.errors import ConfigError, DataError

__all__ = ["fashion_mnist"]

_CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_COUNTS = {"train": 60000, "test": 10000}
_DEBIAN = "/usr/share/datasets/fashion-mnist"
_HINT = "install Debian's package dataset-fashion-mnist or give the folder that holds it"


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
    images = read_idx(root / f"{stem}-images-idx3-ubyte.gz", 3, hint=_HINT)
    labels = read_idx(root / f"{stem}-labels-idx1-ubyte.gz", 1, hint=_HINT)
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
