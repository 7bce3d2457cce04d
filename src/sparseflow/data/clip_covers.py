"""Which frames of a video become a clip: covers of several lengths, and T frames of each at even distances."""

from collections.abc import Sequence
from dataclasses import dataclass

from sparseflow.errors import ConfigError

__all__ = ["Cover", "covers", "frames_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cover:
    """A stretch of a video.

    Args:
        start: its first frame.
        length: frames that it spans; a shorter video repeats its last one.
    """

    start: int
    length: int


def covers(frames: int, lengths: Sequence[int], phase: float = 0.0) -> tuple[Cover, ...]:
    """Return the covers of a video: for each length, one every half of it, from a phase on.

    A video that is shorter than a length has one cover of it, from its first frame.

    Args:
        frames: of the video.
        lengths: frames a cover spans, each at least 1.
        phase: share of a step, 0 to below 1, by which all covers are moved; drawn anew each epoch of a training.

    Raises:
        ConfigError: no frame, no length, or a length or phase out of range.

    >>> [c.start for c in covers(16, [8])], [c.start for c in covers(16, [8], 0.5)]
    ([0, 4, 8], [2, 6])
    >>> covers(1, [8])
    (Cover(start=0, length=8),)
    """
    if frames < 1 or not lengths or min(lengths) < 1 or not 0 <= phase < 1:
        raise ConfigError(
            f"{frames} frames, cover lengths {list(lengths)}, phase {phase}; "
            "expected at least one frame, lengths from 1, and a phase from 0 to below 1"
        )
    found = []
    for length in lengths:
        step = max(1, length // 2)
        starts = range(int(phase * step), frames - length + 1, step) or (0,)
        found += [Cover(start=start, length=length) for start in starts]
    return tuple(found)


def frames_of(cover: Cover, frames: int, take: int) -> tuple[int, ...]:
    """Return `take` frames of a cover: start + ⌊i · length / take⌋, the last of the video repeated beyond its end.

    Args:
        cover: the stretch.
        frames: of the video.
        take: T.

    >>> frames_of(Cover(start=4, length=16), 100, 8)
    (4, 6, 8, 10, 12, 14, 16, 18)
    >>> frames_of(Cover(start=0, length=8), 3, 8)
    (0, 1, 2, 2, 2, 2, 2, 2)
    """
    return tuple(min(cover.start + i * cover.length // take, frames - 1) for i in range(take))
