"""Random changes of training images, each image by a draw of its own, on the device that holds them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import ConfigError

__all__ = ["erase", "rotate"]

# As torchvision's RandomErasing, which is the paper's S_l, S_h and r_1.
_AREA = (0.02, 0.33)
_RATIO = (0.3, 1 / 0.3)
_TRIES = 10


def rotate(x: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Turn each image about its centre by an angle drawn evenly from [−degrees, degrees].

    Values are interpolated bilinearly, and 0 comes in at the corners: of normalised images, the mean colour.

    Args:
        x: `[N, C, H, W]` floating point.
        degrees: largest angle in degrees.
        generator: of the images' device.

    Raises:
        ConfigError: `degrees` is negative.

    >>> rotate(torch.ones(1, 1, 2, 2), 0.0, torch.Generator())
    tensor([[[[1., 1.],
              [1., 1.]]]])
    """
    if not degrees >= 0:
        raise ConfigError(f"degrees is {degrees}; expected 0 or more")
    n, _, height, width = x.shape
    angle = (2 * torch.rand(n, generator=generator, device=x.device) - 1) * math.radians(degrees)
    if not n or degrees == 0:
        return x
    cos, sin, none = angle.cos().to(x.dtype), angle.sin().to(x.dtype), torch.zeros(n, device=x.device, dtype=x.dtype)
    # Coordinates run from -1 to 1 on both axes, so other than square images need the ratio of the sides.
    rows = [torch.stack([cos, -sin * (height / width), none], 1), torch.stack([sin * (width / height), cos, none], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def erase(x: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Set a random rectangle of some images to 0.

    A rectangle covers 2 to 33 % of the image, at a ratio of its sides from 0.3 to 3.3, even in
    its logarithm; of ten draws the first that fits inside is taken, and none if none does.

    Args:
        x: `[N, C, H, W]` floating point.
        probability: share of the images that lose a rectangle, 0 to 1.
        generator: of the images' device.

    Raises:
        ConfigError: `probability` is not within 0 to 1.

    Source: Zhong et al., Random Erasing Data Augmentation, AAAI 2020; as torchvision draws it.

    >>> erase(torch.ones(1, 1, 1, 1), 0.0, torch.Generator()).item()
    1.0
    """
    if not 0 <= probability <= 1:
        raise ConfigError(f"probability is {probability}; expected 0 to 1")
    n, _, height, width = x.shape
    draw = torch.rand(2, _TRIES, n, generator=generator, device=x.device)
    hit, down, right = torch.rand(3, n, generator=generator, device=x.device)
    area = (_AREA[0] + (_AREA[1] - _AREA[0]) * draw[0]) * height * width
    ratio = torch.exp(math.log(_RATIO[0]) + (math.log(_RATIO[1]) - math.log(_RATIO[0])) * draw[1])
    tall, wide = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (tall < height) & (wide < width)
    first = fits.int().argmax(0, keepdim=True)
    tall, wide = tall.gather(0, first).squeeze(0), wide.gather(0, first).squeeze(0)
    chosen = (hit < probability) & fits.any(0)
    top = (down * (height - tall + 1)).floor()
    left = (right * (width - wide + 1)).floor()
    row = torch.arange(height, device=x.device)
    column = torch.arange(width, device=x.device)
    inside_rows = (row >= top[:, None]) & (row < (top + tall)[:, None])
    inside_columns = (column >= left[:, None]) & (column < (left + wide)[:, None])
    mask = inside_rows[:, :, None] & inside_columns[:, None, :] & chosen[:, None, None]
    return x.masked_fill(mask.unsqueeze(1), 0.0)
