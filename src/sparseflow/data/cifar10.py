"""CIFAR-10 from lossless WebP sheets, official python batches, parquet files, or a folder of PNG files.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

import lzma
import os
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from sparseflow.data._batches import read_batch
from sparseflow.data._parquet import find_parquet, read_parquet
from sparseflow.data.images import ImageSet
from sparseflow.errors import ConfigError, DataError

__all__ = ["CLASSES", "cifar10", "cifar10_subset"]

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_MEAN = (0.49139968, 0.48215841, 0.44653091)
_STD = (0.24703223, 0.24348513, 0.26158784)
_COUNTS = {"train": 50000, "test": 10000}
_ROWS, _COLUMNS, _SIDE = 40, 25, 32

Arrays = tuple[NDArray[np.uint8], NDArray[np.int64]]


def cifar10(path: str | os.PathLike[str], split: str = "train") -> ImageSet:
    """Load CIFAR-10 in its canonical order.

    `path` may hold, tried in this order:

    * `sheets/{split}_NN.webp` and `{split}_index.txt.xz`: lossless WebP sheets of
      1000 tiles (25 a row) and one line `label name` an image;
    * `data_batch_1` … `test_batch`, or `cifar-10-batches-py/` with them: the official
      python batches, read without unpickling;
    * `{split}*.parquet`, here or one folder down: encoded images `img` and numbers `label` (needs pyarrow);
    * `{split}/{class}/*.png`: one folder a class, by class then by file name.

    Args:
        path: the folder.
        split: "train" (50,000 images) or "test" (10,000).

    Raises:
        ConfigError: unknown split.
        DataError: none of the layouts, a damaged file, or another number of images.
    """
    if split not in _COUNTS:
        raise ConfigError(f"split is {split!r}; expected 'train' or 'test'")
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"{root} is no folder; give the folder that holds CIFAR-10")
    batches = root / "cifar-10-batches-py"
    batches = batches if batches.is_dir() else root
    if (root / "sheets").is_dir():
        images, labels = _sheets(root, split)
    elif (batches / "test_batch").exists() or (batches / "data_batch_1").exists():
        names = ["test_batch"] if split == "test" else [f"data_batch_{i}" for i in range(1, 6)]
        parts = [read_batch(batches / name) for name in names]
        images, labels = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    elif parquet := find_parquet(root, split):
        images, labels = read_parquet(parquet, (_SIDE, _SIDE))
    elif (root / split).is_dir():
        images, labels = _folders(root / split)
    else:
        raise DataError(
            f"{root} holds no CIFAR-10: expected sheets/{split}_00.webp, cifar-10-batches-py/, "
            f"{split}*.parquet or {split}/airplane/*.png in it"
        )
    if len(labels) != _COUNTS[split]:
        raise DataError(f"{root} holds {len(labels)} {split} images; CIFAR-10 has {_COUNTS[split]}")
    return _image_set(split, images, labels)


def cifar10_subset() -> ImageSet:
    """Load the first 2000 CIFAR-10 test images, which ship inside sparseflow.

    >>> cifar10_subset().images.shape
    torch.Size([2000, 3, 32, 32])
    """
    root = Path(__file__).parents[1] / "assets" / "cifar10_subset"
    return _image_set("test", *_sheets(root, "test"))


def _image_set(split: str, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> ImageSet:
    return ImageSet(
        name="cifar10",
        split=split,
        images=torch.from_numpy(np.ascontiguousarray(images)),
        labels=torch.from_numpy(labels),
        classes=CLASSES,
        mean=_MEAN,
        std=_STD,
    )


def _sheets(root: Path, split: str) -> Arrays:
    index = root / f"{split}_index.txt.xz"
    try:
        with lzma.open(index, "rt", encoding="utf-8") as f:
            labels = np.array([int(line.split(" ", 1)[0]) for line in f], np.int64)
    except OSError as e:
        raise DataError(f"cannot read {index}: {e.strerror or e}") from e
    except (lzma.LZMAError, EOFError, ValueError) as e:
        raise DataError(f"{index} is damaged: {e}") from e
    tiles = _ROWS * _COLUMNS
    if not len(labels) or len(labels) % tiles:
        raise DataError(f"{index} lists {len(labels)} images; expected a multiple of {tiles}")
    sheets = [_sheet(root / "sheets" / f"{split}_{i:02}.webp") for i in range(len(labels) // tiles)]
    return np.concatenate(sheets), labels


def _pixels(path: Path, width: int, height: int) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError as e:
        raise DataError(f"{path} is missing") from e
    except (OSError, SyntaxError, ValueError) as e:
        raise DataError(f"{path} is damaged or no image: {e}") from e
    if pixels.shape != (height, width, 3):
        raise DataError(f"{path} is {pixels.shape[1]}×{pixels.shape[0]}; expected {width}×{height}")
    return pixels


def _sheet(path: Path) -> NDArray[np.uint8]:
    pixels = _pixels(path, _COLUMNS * _SIDE, _ROWS * _SIDE)
    tiles = pixels.reshape(_ROWS, _SIDE, _COLUMNS, _SIDE, 3).transpose(0, 2, 4, 1, 3)
    return tiles.reshape(_ROWS * _COLUMNS, 3, _SIDE, _SIDE)


def _folders(root: Path) -> Arrays:
    found = sorted(p.name for p in root.iterdir() if p.is_dir())
    if found != sorted(CLASSES):
        raise DataError(f"{root} holds folders {', '.join(found) or '(none)'}; expected {', '.join(CLASSES)}")
    images, labels = [], []
    for label, name in enumerate(CLASSES):
        for path in sorted((root / name).glob("*.png")):
            images.append(_pixels(path, _SIDE, _SIDE).transpose(2, 0, 1))
            labels.append(label)
    if not images:
        raise DataError(f"{root} holds no .png file")
    return np.stack(images), np.array(labels, np.int64)
