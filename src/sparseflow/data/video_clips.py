"""Clips of videos on disk: cut, resized and cropped in worker processes, whose errors name the file."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparseflow.data.clip_covers import Cover, covers, frames_of
from sparseflow.data.ucf101 import VideoList
from sparseflow.data.video_frames import count_frames, read_frames
from sparseflow.errors import ConfigError, SparseFlowError

__all__ = ["VideoClips"]

# Of the side that a frame is resized to, the share that a crop keeps: 224 of 256.
_CROP = 7 / 8

Item = tuple[int, Cover, int | None]


@dataclass(frozen=True, kw_only=True)
class VideoClips:
    """Clips of a list of videos.

    Args:
        source: the videos.
        frames: T, frames of a clip.
        side: S, height and width.
        lengths: frames that a cover spans, see `clip_covers.covers`.
        per_video: clips of each video in an epoch, drawn among its covers, or at even distances in a test; None for
            all covers.
        flip: mirror half of the clips of a training; only where left and right are one class.
        workers: processes that read.

    Raises:
        ConfigError: a count out of range.
    """

    source: VideoList
    frames: int = 8
    side: int = 224
    lengths: tuple[int, ...] = (8, 16)
    per_video: int | None = None
    flip: bool = True
    workers: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        least = {"frames": 1, "side": 1, "workers": 0, "per_video": 1}
        for name, low in least.items():
            if (value := getattr(self, name)) is not None and value < low:
                raise ConfigError(f"{name} is {value}; expected at least {low}")

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Frames of each video.

        Raises:
            DataError: a video without frames; names it.
        """
        return tuple(count_frames(video.path) for video in self.source.videos)

    def batches(self, size: int) -> int:
        """Return how many batches an epoch has; with all covers, up to a few that the drawn phases cost or add."""
        each = (len(covers(n, self.lengths)) if self.per_video is None else self.per_video for n in self.counts)
        return sum(each) // size

    def epoch(self, size: int, seed: int, *, share: slice = slice(None)) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of a training epoch: `[B, T, 3, S, S]` uint8 clips, and labels.

        Covers start at a phase drawn for each video, crops and mirroring are drawn for each clip. All of it follows
        from `seed` alone, whatever the number of workers. A smaller rest is left out.

        Args:
            size: clips a batch.
            seed: one for each epoch.
            share: which of a batch to read, where several processes share it.

        Raises:
            DataError: a frame that cannot be read; names its file.
        """
        draw = random.Random(seed)
        items: list[Item] = []
        for video, count in enumerate(self.counts):
            found = covers(count, self.lengths, draw.random())
            chosen = found if self.per_video is None else draw.choices(found, k=self.per_video)
            items += [(video, cover, draw.getrandbits(62)) for cover in chosen]
        draw.shuffle(items)
        for clips, labels, _ in self._read([items[i : i + size][share] for i in range(0, len(items) - size + 1, size)]):
            yield clips, labels

    def every(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the clips of a test in order, cropped at the centre, with their labels and the index of their video.

        Args:
            size: clips a batch; the last may be smaller.

        Raises:
            DataError: a frame that cannot be read; names its file.
        """
        items: list[Item] = []
        for video, count in enumerate(self.counts):
            found = covers(count, self.lengths)
            take = len(found) if self.per_video is None else min(self.per_video, len(found))
            items += [(video, found[(2 * i + 1) * len(found) // (2 * take)], None) for i in range(take)]
        yield from self._read([items[i : i + size] for i in range(0, len(items), size)])

    def clip(self, video: int, cover: Cover, seed: int | None = None) -> Tensor:
        """Return one clip `[T, 3, S, S]` uint8.

        Args:
            video: index of the video.
            cover: the stretch of it.
            seed: of crop and mirroring; None crops at the centre.

        Raises:
            DataError: a frame that cannot be read; names its file.
        """
        chosen = self.source.videos[video]
        pictures = read_frames(chosen.path, frames_of(cover, self.counts[video], self.frames))
        draw = None if seed is None else random.Random(seed)
        across, down = (0.5, 0.5) if draw is None else (draw.random(), draw.random())
        clip = np.stack([_cropped(p, self.side, across, down) for p in pictures])
        if draw is not None and self.flip and draw.random() < 0.5:
            clip = clip[:, :, ::-1]
        return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))

    def _read(self, batches: list[list[Item]]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        loader: DataLoader[Any] = DataLoader(
            _Reader(self), batch_sampler=batches, num_workers=self.workers, collate_fn=_batch
        )
        for found in loader:
            # An error raised inside of a worker would come with the worker's traceback as its text.
            if isinstance(found, SparseFlowError):
                raise found
            yield found


class _Reader(Dataset[Any]):
    def __init__(self, clips: VideoClips) -> None:
        self.clips = clips

    def __getitem__(self, item: Item) -> tuple[Tensor, int, int] | SparseFlowError:
        video, cover, seed = item
        try:
            return self.clips.clip(video, cover, seed), self.clips.source.videos[video].label, video
        except SparseFlowError as e:
            return e


def _batch(items: Sequence[Any]) -> tuple[Tensor, Tensor, Tensor] | SparseFlowError:
    for item in items:
        if isinstance(item, SparseFlowError):
            return item
    clips, labels, videos = zip(*items, strict=True)
    return torch.stack(clips), torch.tensor(labels), torch.tensor(videos)


def _cropped(picture: Image.Image, side: int, across: float, down: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a square of a picture, resized: 7/8 of its shorter side, at a place given by shares of the room."""
    width, height = picture.size
    square = min(width, height) * _CROP
    left, top = across * (width - square), down * (height - square)
    return np.asarray(
        picture.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + square, top + square))
    )
