"""MNIST from its four idx files, or the 4000 digits of it that ship.

Source: LeCun, Bottou, Bengio, Haffner, Gradient-based learning applied to document recognition, Proc. IEEE 1998.
"""

import os
from pathlib import Path

import numpy as np
import torch

from sparseflow.data.idx import read_idx
from sparseflow.data.images import ImageSet
from sparseflow.errors import ConfigError, DataError

__all__ = ["mnist"]

_STEMS = {"train": "train", "test": "t10k"}


def mnist(path: str | os.PathLike[str] | None = None, split: str = "train") -> ImageSet:
    """Load MNIST: 28×28 grey images of handwritten digits.

    Args:
        path: folder with `train-images-idx3-ubyte.gz` and the other three; None for the first 3000 training and the
            first 1000 test digits, which ship with sparseflow.
        split: "train" or "test".

    Raises:
        ConfigError: unknown split.
        DataError: a file is missing or damaged, or images and labels do not fit together.

    >>> len(mnist()), len(mnist(split="test"))
    (3000, 1000)
    """
    if split not in _STEMS:
        raise ConfigError(f"split is {split!r}; expected 'train' or 'test'")
    root = Path(__file__).parents[1] / "assets" / "mnist_subset" if path is None else Path(path)
    images = read_idx(root / f"{_STEMS[split]}-images-idx3-ubyte.gz", 3)
    labels = read_idx(root / f"{_STEMS[split]}-labels-idx1-ubyte.gz", 1)
    if images.shape[1:] != (28, 28) or not len(images):
        raise DataError(f"{root}: {split} images are {images.shape}; expected [N, 28, 28]")
    return ImageSet(
        name="mnist",
        split=split,
        images=torch.from_numpy(images[:, None].copy()),
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=tuple("0123456789"),
        mean=(0.1307,),
        std=(0.3081,),
    )
