"""Shuffled, augmented batches on the device that holds the images."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.data import ImageSet, erase, rotate

__all__ = ["augment", "augmented"]


def augmented(
    images: ImageSet,
    pixels: Tensor,
    labels: Tensor,
    *,
    batch_size: int,
    seed: int,
    crop_padding: int = 0,
    flip: bool = False,
    cutout: int = 0,
    degrees: float = 0.0,
    erasing: float = 0.0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch, each image cropped, mirrored, turned and blanked by its own draw.

    Args:
        images: the set, for its mean and deviation.
        pixels: its images `[N, C, H, W]` uint8 on the device.
        labels: its labels on the device.
        batch_size: images a batch; a smaller rest is left out unless it is all there is.
        seed: one for each epoch, so that a resumed run repeats its batches.
        crop_padding: random crop after padding by so many pixels; 0 for none.
        flip: mirror half of the images.
        cutout: side of the square that is blanked; 0 for none.
        degrees: largest angle of a random rotation; 0 for none.
        erasing: share of the images of which a random rectangle is blanked; 0 for none.
    """
    device = pixels.device
    g = torch.Generator(device=device).manual_seed(seed)
    order = torch.randperm(len(labels), generator=g, device=device)
    # A smaller last batch would be compiled anew, so it is left out.
    whole = len(order) - len(order) % batch_size or len(order)
    for index in torch.split(order[:whole], batch_size):
        x = augment(
            images.normalize(pixels[index]), g, crop_padding=crop_padding, flip=flip, cutout=cutout, degrees=degrees,
            erasing=erasing,
        )  # fmt: skip
        yield x, labels[index]


def augment(
    x: Tensor,
    generator: torch.Generator,
    *,
    crop_padding: int = 0,
    flip: bool = False,
    cutout: int = 0,
    degrees: float = 0.0,
    erasing: float = 0.0,
) -> Tensor:
    """Return a batch with each image cropped, mirrored, turned and blanked by its own draw; no value is read back.

    Args:
        x: `[N, C, S, S]` normalised images.
        generator: of their device.
        crop_padding: as of `augmented`.
        flip: likewise.
        cutout: likewise.
        degrees: likewise.
        erasing: likewise.
    """
    device, n, side, pad = x.device, len(x), x.shape[-1], crop_padding
    grid = torch.arange(side, device=device)
    channel = torch.arange(x.shape[1], device=device).view(1, -1, 1, 1)
    draw = torch.rand(5, n, 1, generator=generator, device=device)
    rows = grid + (draw[0] * (2 * pad + 1)).long()
    columns = grid + (draw[1] * (2 * pad + 1)).long()
    if flip:
        columns = torch.where(draw[2] < 0.5, columns.flip(1), columns)
    which = torch.arange(n, device=device).view(-1, 1, 1, 1)
    x = F.pad(x, (pad,) * 4)[which, channel, rows[:, None, :, None], columns[:, None, None, :]]
    if cutout:
        half = cutout / 2
        hit_rows = (grid + 0.5 - draw[3] * side).abs() < half
        hit_columns = (grid + 0.5 - draw[4] * side).abs() < half
        x = x.masked_fill((hit_rows[:, :, None] & hit_columns[:, None, :]).unsqueeze(1), 0.0)
    if degrees:
        x = rotate(x, degrees, generator)
    return erase(x, erasing, generator) if erasing else x
