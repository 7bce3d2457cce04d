"""Where clips come from: one face for digits drawn on the device, joint tracks, and videos on disk."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from sparseflow.data import JointTracks, MovingDigits, VideoClips, jhmdb, mnist, ucf101, write_sample
from sparseflow.data.jhmdb import JOINTS
from sparseflow.data.ucf101 import Video
from sparseflow.errors import ConfigError
from sparseflow.recipes.video.config import VideoConfig

__all__ = ["Digits", "Joints", "Source", "Videos", "open_sources"]

_CHUNK = 128
_TEST_SEED = 20_12
_HELD = 5
# Batches drawn at a time: a draw is a hundred small kernels, whatever its size.
_AHEAD = 4


class Source(Protocol):
    """Clips of one role."""

    channels: int
    synthetic: bool

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label."""

    def __len__(self) -> int:
        """Return the clips of an epoch; of a test, its videos."""

    def batches(self, size: int) -> int:
        """Return how many batches of `size` an epoch has, or about as many."""

    def epoch(self, size: int, seed: int, share: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield batches of `size` clips `[B, T, C, S, S]` and labels on the device; all follows from `seed`.

        Args:
            size: clips a batch; a smaller rest is left out.
            seed: one for each epoch.
            share: which of a batch to return.
        """

    def every(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield all clips in order, on the device, with their labels and the index of their video."""

    def scale(self, clips: Tensor) -> Tensor:
        """Return clips as a network takes them, in float32."""


class Digits:
    """Moving digits, drawn on the device in training; the clips of a test are drawn once, alike on every device.

    Args:
        digits: draws clips.
        count: clips of an epoch or of the test.
        device: where to.
        test: whether this is a test.
    """

    channels, synthetic = 1, True

    def __init__(self, digits: MovingDigits, count: int, device: torch.device, *, test: bool) -> None:
        self.digits, self.count, self.device, self.classes = digits.to(device), count, device, digits.classes
        self._fixed: tuple[Tensor, Tensor] | None = None
        if test:
            g = torch.Generator().manual_seed(_TEST_SEED)
            parts = [digits.draw(min(_CHUNK, count - i), g) for i in range(0, count, _CHUNK)]
            self._fixed = torch.cat([c for c, _ in parts]).to(device), torch.cat([y for _, y in parts]).to(device)

    def __len__(self) -> int:
        """Return the clips of an epoch or of the test."""
        return self.count

    def batches(self, size: int) -> int:
        """Return how many batches of `size` an epoch has."""
        return len(self) // size

    def epoch(self, size: int, seed: int, share: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield newly drawn batches."""
        g = torch.Generator(self.device).manual_seed(seed)
        left = self.batches(size)
        while left:
            now = min(_AHEAD, left)
            clips, labels = self.digits.draw(now * size, g)
            for x, y in zip(torch.split(clips, size), torch.split(labels, size), strict=True):
                yield x[share], y[share]
            left -= now

    def every(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the clips of the test.

        Raises:
            ConfigError: these are clips of a training.
        """
        if self._fixed is None:
            raise ConfigError("the clips of a training are drawn anew each time; only those of a test can be listed")
        clips, labels = self._fixed
        for i in range(0, self.count, size):
            yield clips[i : i + size], labels[i : i + size], torch.arange(i, min(i + size, self.count))

    def scale(self, clips: Tensor) -> Tensor:
        """Return clips with MNIST's mean and deviation taken off."""
        images = self.digits.images
        return (clips.float() - 255 * images.mean[0]) / (255 * images.std[0])


class Joints:
    """Volumes of joint tracks, drawn on the device.

    Args:
        tracks: of one role.
        frames: T.
        side: S.
        device: where to.
        chosen: places of those that take part; None for all.
    """

    channels, synthetic = len(JOINTS), False

    def __init__(
        self, tracks: JointTracks, frames: int, side: int, device: torch.device, chosen: Tensor | None = None
    ) -> None:
        self.tracks, self.frames, self.side, self.device = tracks.to(device), frames, side, device
        self.chosen = (torch.arange(len(tracks)) if chosen is None else chosen).to(device)
        self.classes = tracks.classes

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self.chosen)

    def batches(self, size: int) -> int:
        """Return how many batches of `size` an epoch has."""
        return len(self) // size

    def epoch(self, size: int, seed: int, share: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all tracks in a new order, changed as `JointTracks.volumes` says."""
        g = torch.Generator(self.device).manual_seed(seed)
        order = self.chosen[torch.randperm(len(self), generator=g, device=self.device)]
        for index in torch.split(order[: self.batches(size) * size], _AHEAD * size):
            clips = self.tracks.volumes(index, frames=self.frames, side=self.side, generator=g)
            for x, y in zip(torch.split(clips, size), torch.split(self.tracks.labels[index], size), strict=True):
                yield x[share], y[share]

    def every(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield all tracks as they are."""
        for place in torch.split(torch.arange(len(self)), size):
            index = self.chosen[place.to(self.device)]
            yield self.tracks.volumes(index, frames=self.frames, side=self.side), self.tracks.labels[index], place

    def scale(self, clips: Tensor) -> Tensor:
        """Return clips as they are."""
        return clips


@dataclass
class Videos:
    """Clips of videos on disk.

    Args:
        clips: reads them.
        device: where to.
        synthetic: whether they are the sample tree, no real videos.
    """

    clips: VideoClips
    device: torch.device
    synthetic: bool = False
    channels: int = 3

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by label."""
        return self.clips.source.classes

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.clips.source)

    def batches(self, size: int) -> int:
        """Return how many batches of `size` an epoch has."""
        return self.clips.batches(size)

    def epoch(self, size: int, seed: int, share: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield clips of all videos in a new order."""
        for clips, labels in self.clips.epoch(size, seed, share=share):
            yield clips.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)

    def every(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the clips of a test."""
        for clips, labels, videos in self.clips.every(size):
            yield clips.to(self.device), labels.to(self.device), videos

    def scale(self, clips: Tensor) -> Tensor:
        """Return clips with ImageNet's mean and deviation taken off, as pretrained weights expect."""
        mean = torch.tensor((0.485, 0.456, 0.406), device=clips.device).view(3, 1, 1) * 255
        std = torch.tensor((0.229, 0.224, 0.225), device=clips.device).view(3, 1, 1) * 255
        return (clips.float() - mean) / std


def open_sources(
    config: VideoConfig, device: torch.device, *, roles: tuple[str, ...] = ("train", "test")
) -> list[Source]:
    """Return the clips of each role that a configuration names.

    With `config.validate` the official test stays closed: every fifth digit, track or group of videos (those named
    alike but for the number of the clip) of the training data is held back from it, and is the test.

    Args:
        config: which data.
        device: where clips go.
        roles: any of "train" and "test".

    Raises:
        ConfigError: settings of the digits that do not fit.
        DataError: missing or damaged data; names the file.
    """
    return [_open(config, device, role) for role in roles]


def _open(config: VideoConfig, device: torch.device, role: str) -> Source:
    test = role == "test"
    listed = "train" if config.validate else role
    if config.dataset == "digits":
        images = mnist(config.data, split=listed)
        if config.validate:
            own = _part(len(images), held=test)
            images = replace(images, images=images.images[own], labels=images.labels[own])
        try:
            given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in config.digits.items()}
            digits = MovingDigits(images=images, frames=config.num_frames, side=config.img_size, **given)
        except TypeError as e:
            raise ConfigError(f"digits holds a setting that MovingDigits lacks: {e}") from e
        return Digits(digits, config.test_clips if test else config.clips, device, test=test)
    if config.dataset == "jhmdb":
        tracks = jhmdb(config.data or "", split=config.split, role=listed)
        chosen = _part(len(tracks), held=test) if config.validate else None
        return Joints(tracks, config.num_frames, config.img_size, device, chosen)
    sample = config.folder.parent / "ucf101_sample"
    if config.data is None and not sample.exists():
        write_sample(sample)
    source = ucf101(config.data or sample, split=config.split, role=listed)
    if config.validate:
        groups = list(dict.fromkeys(_group(v) for v in source.videos))
        own_groups = {groups[i] for i in _part(len(groups), held=test).tolist()}
        source = replace(source, role=role, videos=tuple(v for v in source.videos if _group(v) in own_groups))
    clips = VideoClips(
        source=source,
        frames=config.num_frames,
        side=config.img_size,
        lengths=config.clip_lens,
        per_video=config.test_per_video if test else config.per_video,
        # The classes of the sample are directions, which a mirror exchanges.
        flip=config.flip and config.data is not None,
        workers=config.workers,
    )
    return Videos(clips, device, synthetic=config.data is None)


def _part(count: int, *, held: bool) -> Tensor:
    """Return which of `count` in order are held back, or which are not."""
    mine = torch.arange(count) % _HELD == _HELD - 1
    return (mine if held else ~mine).nonzero()[:, 0]


def _group(video: Video) -> str:
    """Return the name without the number of the clip: clips of a group are cut from the same film."""
    return video.name.rpartition("_c")[0] or video.name
