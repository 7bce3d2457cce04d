"""Image sets: the CIFAR-10 subset that ships with sparseflow, and folders that the user names."""

from sparseflow.data.cifar10 import cifar10, cifar10_subset
from sparseflow.data.fashion_mnist import fashion_mnist
from sparseflow.data.images import ImageSet

__all__ = ["ImageSet", "cifar10", "cifar10_subset", "fashion_mnist"]
