"""Splits: images to train on, to calibrate with and to select by, and test images that stay sealed until the end."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparseflow.data.cifar10 import cifar10, cifar10_subset
from sparseflow.data.images import ImageSet
from sparseflow.errors import ConfigError, DataError

__all__ = ["Sealed", "Splits", "cifar10_splits", "open_splits", "split_train", "subset_splits"]

_WHOLE = (5000, 2048)
_SUBSET = (400, 256)
_SUBSET_TEST = 500


class Sealed:
    """Test images that are loaded when they are opened, and every opening is written down.

    Args:
        load: returns the images.

    >>> from sparseflow.data import cifar10_subset
    >>> test = Sealed(cifar10_subset)
    >>> test.opened
    ()
    >>> len(test.open("accuracy of the selected configuration")), test.opened
    (2000, ('accuracy of the selected configuration',))
    """

    def __init__(self, load: Callable[[], ImageSet]) -> None:
        self._load = load
        self._images: ImageSet | None = None
        self._opened: list[str] = []

    @property
    def opened(self) -> tuple[str, ...]:
        """What the images were opened for, in order; empty while nothing has read them."""
        return tuple(self._opened)

    def open(self, purpose: str) -> ImageSet:
        """Return the images.

        Args:
            purpose: what for, in words; selection of any kind is none.

        Raises:
            ConfigError: no purpose.
            DataError: the images cannot be read.
        """
        if not purpose.strip():
            raise ConfigError("the test images are opened without a purpose; say what the result is for")
        if self._images is None:
            self._images = self._load()
        self._opened.append(purpose)
        return self._images


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The parts of a data set; `train`, `calib` and `val` share no image unless `split_train` was told so.

    Args:
        train: for weights.
        calib: for histograms of activations and the reward of a search; a fixed set, so that
            all candidates are compared on the same images.
        val: for choosing among finalists and epochs.
        test: for the figures that are reported, after everything is chosen.
    """

    train: ImageSet
    calib: ImageSet
    val: ImageSet
    test: Sealed


def split_train(
    images: ImageSet, *, val: int = 5000, calib: int = 2048, seed: int = 0, held_out: bool = True
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Divide training images at random into train, calib and val, each with all classes in their proportion.

    The images of `train` keep their order; those of `calib` and `val` are dealt so that any
    first part of them has the classes in proportion too.

    Args:
        images: usually the training images of a set.
        val: images for selection.
        calib: images for calibration.
        seed: seed of the draw.
        held_out: whether the images of `calib` are left out of `train`.

    Returns:
        Train, calib, val; their `split` is "train", "calib" and "val".

    Raises:
        ConfigError: `val` or `calib` is below 1, or nothing is left to train on.

    >>> from sparseflow.data import cifar10_subset
    >>> train, calib, val = split_train(cifar10_subset(), val=200, calib=100)
    >>> len(train), len(calib), len(val)
    (1700, 100, 200)
    """
    for name, count in (("val", val), ("calib", calib)):
        if count < 1:
            raise ConfigError(f"{name} is {count}; expected at least 1 image")
    if val + calib >= len(images):
        raise ConfigError(
            f"val {val} and calib {calib} take all of the {len(images)} {images.split} images of {images.name};"
            " take fewer, so that some are left to train on"
        )
    dealt = _dealt(images.labels, seed)
    for_val, for_calib = dealt[:val], dealt[val : val + calib]
    rest = dealt[val + calib if held_out else val :].sort().values
    return _part(images, rest, "train"), _part(images, for_calib, "calib"), _part(images, for_val, "val")


def cifar10_splits(
    path: str | os.PathLike[str], *, val: int = 5000, calib: int = 2048, seed: int = 0, held_out: bool = True
) -> Splits:
    """Return CIFAR-10 divided by `split_train`, with its 10,000 test images sealed and not yet read.

    Args:
        path: folder of the data set, as for `cifar10`.
        val: images for selection, of the 50,000 training images.
        calib: images for calibration, likewise.
        seed: seed of the draw.
        held_out: whether the images of `calib` are left out of `train`.

    Raises:
        ConfigError: as `split_train`.
        DataError: the training images cannot be read.
    """
    train, calibration, selection = split_train(
        cifar10(path, "train"), val=val, calib=calib, seed=seed, held_out=held_out
    )
    return Splits(train=train, calib=calibration, val=selection, test=Sealed(lambda: cifar10(path, "test")))


def subset_splits(*, val: int = 400, calib: int = 256, seed: int = 0) -> Splits:
    """Return the 2000 images that ship with sparseflow, divided: 500 sealed for test, the rest by `split_train`.

    All of them are test images of CIFAR-10, so that a network trained on the whole of its training images has seen
    none. They are few: an accuracy on 500 images is uncertain by ± 2.6 points at 90 %.

    Args:
        val: images for selection.
        calib: images for calibration.
        seed: seed of the draw.

    Raises:
        ConfigError: as `split_train`.
    """
    shipped = cifar10_subset()
    order = _dealt(shipped.labels, seed)
    test, rest = order[:_SUBSET_TEST].sort().values, order[_SUBSET_TEST:].sort().values
    train, calibration, selection = split_train(_part(shipped, rest, "train"), val=val, calib=calib, seed=seed)
    return Splits(
        train=train, calib=calibration, val=selection, test=Sealed(lambda: _part(cifar10_subset(), test, "test"))
    )


def open_splits(
    path: str | os.PathLike[str] | None = None,
    *,
    val: int | None = None,
    calib: int | None = None,
    seed: int = 0,
    held_out: bool = True,
) -> Splits:
    """Return CIFAR-10 at a path, or without one the images that ship with sparseflow, divided.

    Args:
        path: as for `cifar10_splits`; None for `subset_splits`.
        val: images for selection; None for 5000 of the whole set and 400 of the shipped images.
        calib: images for calibration; None for 2048 and 256.
        seed: seed of the draw.
        held_out: whether the images of `calib` are left out of `train`; those of the shipped images always are.

    Raises:
        ConfigError: as `split_train`.
        DataError: the images cannot be read.

    >>> splits = open_splits()
    >>> len(splits.train), len(splits.calib), len(splits.val), splits.test.opened
    (844, 256, 400, ())
    """
    default = _SUBSET if path is None else _WHOLE
    for_val, for_calib = default[0] if val is None else val, default[1] if calib is None else calib
    if path is None:
        return subset_splits(val=for_val, calib=for_calib, seed=seed)
    return cifar10_splits(path, val=for_val, calib=for_calib, seed=seed, held_out=held_out)


def _dealt(labels: Tensor, seed: int) -> Tensor:
    """Return a random order of the indices in which every first part holds the classes in proportion."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    shuffled = labels.cpu()[order]
    place = torch.zeros(len(labels), dtype=torch.float64)
    for label in set(shuffled.tolist()):
        of_class = (shuffled == label).nonzero().squeeze(1)
        place[of_class] = (torch.arange(len(of_class), dtype=torch.float64) + 0.5) / len(of_class)
    return order[place.argsort(stable=True)]


def _part(images: ImageSet, index: Tensor, split: str) -> ImageSet:
    if not len(index):
        raise DataError(f"{images.name}: the {split} split is empty")
    return replace(images, split=split, images=images.images[index], labels=images.labels[index])
