"""Moving digits: clips of real MNIST digits in made motion, drawn on any device. The motion is synthetic, always."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.data._constants import constant
from sparseflow.data.images import ImageSet
from sparseflow.errors import ConfigError

__all__ = ["DIRECTIONS", "MovingDigits"]

DIRECTIONS = ("right", "down right", "down", "down left", "left", "up left", "up", "up right")
_STEPS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class MovingDigits:
    """A generator of clips; the class of a clip is the direction and the speed of what moves in it.

    Some digits move, all the same way; the others, and fragments of digits, stand still in every frame as clutter.
    Which digits they are says nothing about the class, nor does any single frame.

    Args:
        images: the digits, of `mnist`; clips of its "test" split hold digits that training never saw.
        frames: T.
        side: S, height and width of a frame in pixels.
        digit: height and width of a digit in pixels; MNIST's are averaged down to it.
        speeds: pixels a frame along each axis that is moved on.
        movers: digits that move.
        still: whole digits that stand.
        clutter: fragments that stand, each a quarter of a digit.

    Raises:
        ConfigError: a count out of range, or a path that does not fit into the frame.

    >>> from sparseflow.data import mnist
    >>> digits = MovingDigits(images=mnist())
    >>> clips, labels = digits.draw(2, torch.Generator().manual_seed(0))
    >>> clips.shape, clips.dtype, [digits.classes[i] for i in labels]
    (torch.Size([2, 8, 1, 64, 64]), torch.uint8, ['up, 1 px', 'up right, 3 px'])
    """

    images: ImageSet
    frames: int = 8
    side: int = 64
    digit: int = 14
    speeds: tuple[int, ...] = (1, 3)
    movers: int = 1
    still: int = 4
    clutter: int = 12

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, least in (("frames", 1), ("digit", 2), ("movers", 1), ("still", 0), ("clutter", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least {least}")
        if not self.speeds or min(self.speeds) < 1 or len(set(self.speeds)) != len(self.speeds):
            raise ConfigError(f"speeds are {self.speeds}; expected different whole numbers from 1 pixel a frame")
        if (way := self.digit + (self.frames - 1) * max(self.speeds)) > self.side:
            raise ConfigError(f"a digit of {self.digit} pixels needs {way} for its way; side is {self.side}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label: label = direction · speeds + speed."""
        return tuple(f"{way}, {speed} px" for way in DIRECTIONS for speed in self.speeds)

    def to(self, device: torch.device) -> "MovingDigits":
        """Return a generator whose digits lie on a device, in the size that clips show them."""
        sized = self._digits(device)[:, None]
        return replace(self, images=replace(self.images, images=sized, labels=self.images.labels.to(device)))

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return clips `[count, T, 1, S, S]` uint8 and their labels `[count]`, on the generator's device.

        Args:
            count: clips.
            generator: draws everything; the same state gives the same clips on the same device.
        """
        device = generator.device
        labels = torch.randint(len(self.classes), (count,), generator=generator, device=device)
        speed = constant(self.speeds, device)[labels % len(self.speeds)]
        velocity = constant(_STEPS, device)[labels // len(self.speeds)] * speed[:, None]
        digits = self._digits(device)
        still = self._standing(digits, count, generator)
        clips = still.repeat(1, self.frames, 1, 1)
        steps = torch.arange(self.frames, device=device)[None, :, None] * velocity[:, None]
        for _ in range(self.movers):
            # The way stays inside of the frame: where it goes up or left, it begins that far down or right.
            room = self.side - self.digit + 1 - steps[:, -1].abs()
            drawn = torch.rand(count, 2, generator=generator, device=device)
            start = (drawn * room).long() - steps[:, -1].clamp(max=0)
            moving = _paste(_some(digits, count, generator), start[:, None] + steps, self.side)
            clips = torch.maximum(clips, moving)
        return clips[:, :, None], labels

    def _digits(self, device: torch.device) -> Tensor:
        images = self.images.images.to(device)
        if images.shape[-1] == self.digit:
            return images[:, 0]
        return F.adaptive_avg_pool2d(images.float(), self.digit).round().to(torch.uint8)[:, 0]

    def _standing(self, digits: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Return `[count, 1, S, S]`, what stands still in each clip."""
        canvas = torch.zeros(count, 1, self.side, self.side, dtype=torch.uint8, device=digits.device)
        for size, number in ((self.digit, self.still), (max(1, self.digit // 2), self.clutter)):
            if number:
                sprites = _fragment(_some(digits, count * number, generator), size, generator)
                place = _random(count * number, 2, self.side - size + 1, generator)
                pasted = _paste(sprites, place[:, None], self.side)
                canvas = torch.maximum(canvas, pasted.view(count, number, self.side, self.side).amax(1, keepdim=True))
        return canvas


def _some(digits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return digits[torch.randint(len(digits), (count,), generator=generator, device=generator.device)]


def _random(count: int, width: int, high: int, generator: torch.Generator) -> Tensor:
    return torch.randint(high, (count, width), generator=generator, device=generator.device)


def _fragment(sprites: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Return a random square of each sprite, `[B, size, size]`."""
    corner = _random(len(sprites), 2, sprites.shape[-1] - size + 1, generator)
    at = corner[:, :, None] + torch.arange(size, device=sprites.device)
    which = torch.arange(len(sprites), device=sprites.device)[:, None, None]
    return sprites[which, at[:, 0, :, None], at[:, 1, None, :]]


def _paste(sprites: Tensor, place: Tensor, side: int) -> Tensor:
    """Return frames `[B, T, side, side]`, black but for the sprites `[B, d, d]` at their places `[B, T, 2]`."""
    d = sprites.shape[-1]
    at = torch.arange(side, device=sprites.device) - place[..., None]
    inside = (at >= 0) & (at < d)
    at = at.clamp(0, d - 1)
    which = torch.arange(len(sprites), device=sprites.device)[:, None, None, None]
    pixels = sprites[which, at[:, :, 0, :, None], at[:, :, 1, None, :]]
    return pixels * (inside[:, :, 0, :, None] & inside[:, :, 1, None, :])
