"""Image sets: the CIFAR-10 subset that ships with sparseflow, and folders that the user names."""

from sparseflow.data.cifar10 import cifar10, cifar10_subset
from sparseflow.data.fashion_mnist import fashion_mnist
from sparseflow.data.images import ImageSet
from sparseflow.data.splits import Sealed, Splits, cifar10_splits, open_splits, split_train, subset_splits
from sparseflow.data.transforms import erase, rotate

__all__ = [
    "ImageSet",
    "Sealed",
    "Splits",
    "cifar10",
    "cifar10_splits",
    "cifar10_subset",
    "erase",
    "fashion_mnist",
    "open_splits",
    "rotate",
    "split_train",
    "subset_splits",
]
