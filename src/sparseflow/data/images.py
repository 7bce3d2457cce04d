"""ImageSet: labelled images of one split, held in memory as bytes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.errors import DataError

__all__ = ["ImageSet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSet:
    """Labelled images, in their canonical order.

    Args:
        name: data set, as "cifar10".
        split: "train" or "test".
        images: `[N, C, H, W]` uint8.
        labels: `[N]` int64.
        classes: names by label.
        mean: mean by channel of the training images, on a scale of 0 to 1.
        std: standard deviation by channel, likewise.

    Raises:
        DataError: shapes, dtypes or labels that do not fit together.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the fields."""
        n, where = len(self.labels), f"{self.name} {self.split}"
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[0] != n:
            raise DataError(
                f"{where}: {n} labels but images of shape {tuple(self.images.shape)} and {self.images.dtype}; "
                "expected uint8 [N, C, H, W]"
            )
        if n and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise DataError(f"{where}: labels run beyond 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def take(self, count: int | None) -> "ImageSet":
        """Return the first `count` images, or all for None.

        Raises:
            DataError: there are fewer, or `count` is below 1.
        """
        if count is None or count == len(self):
            return self
        if not 1 <= count < len(self):
            raise DataError(f"{self.name} {self.split} has {len(self)} images; cannot take {count}")
        return ImageSet(
            name=self.name,
            split=self.split,
            images=self.images[:count],
            labels=self.labels[:count],
            classes=self.classes,
            mean=self.mean,
            std=self.std,
        )

    def normalize(self, images: Tensor) -> Tensor:
        """Return `images` as float32 with mean 0 and deviation 1 by channel."""
        mean = torch.tensor(self.mean, device=images.device).view(1, -1, 1, 1) * 255
        std = torch.tensor(self.std, device=images.device).view(1, -1, 1, 1) * 255
        return (images.float() - mean) / std

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield normalised images `[size, C, H, W]` and labels in order; the last may be smaller."""
        if size < 1:
            raise DataError(f"batch size is {size}; expected at least 1")
        for start in range(0, len(self), size):
            yield self.normalize(self.images[start : start + size]), self.labels[start : start + size]
