"""A small tree in UCF101's exact layout, drawn from moving digits, to try commands on. Its motion is synthetic."""

import os
import tempfile
from pathlib import Path

import torch
from PIL import Image

from sparseflow.data.mnist import mnist
from sparseflow.data.moving_digits import MovingDigits
from sparseflow.errors import ConfigError, DataError

__all__ = ["write_sample"]

_CLASSES = ("right, 3 px", "down, 3 px", "left, 3 px", "up, 3 px")
_NOTE = (
    "Not UCF101: moving digits (real MNIST digits in made motion) in the layout of UCF101, written by\n"
    "`sparseflow video sample` so that its commands can be tried. Results on them say nothing about videos.\n"
)


def write_sample(
    root: str | os.PathLike[str], *, train: int = 24, test: int = 8, frames: int = 8, side: int = 64, seed: int = 0
) -> Path:
    """Write `frames/Digits…/v_Digits…_gXX_cYY/frame0001.jpg …` and the lists of split 1, four classes by direction.

    Args:
        root: folder; must not exist yet, or be empty.
        train: videos of each class to train on.
        test: videos of each class for the test, of digits that training does not show.
        frames: of each video.
        side: pixels of height and width.
        seed: of the motion.

    Returns:
        The folder.

    Raises:
        ConfigError: a count below 1, or frames too small for the motion.
        DataError: the folder holds something, or cannot be written.
    """
    if min(train, test) < 1:
        raise ConfigError(f"train is {train} and test {test}; expected at least 1 video of each class")
    base = Path(root)
    if base.exists() and (not base.is_dir() or any(base.iterdir())):
        raise DataError(f"{base} is not empty; name a new folder")
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{base.name}.", dir=base.parent) as place:
            _write_tree(Path(place) / "tree", train, test, frames, side, seed)
            (Path(place) / "tree").replace(base)
    except OSError as e:
        raise DataError(f"cannot write {base}: {e.strerror or e}") from e
    return base


def _write_tree(place: Path, train: int, test: int, frames: int, side: int, seed: int) -> None:
    (place / "splits").mkdir(parents=True)
    (place / "README.txt").write_text(_NOTE, encoding="utf-8")
    names = [_name(c) for c in _CLASSES]
    (place / "splits" / "classInd.txt").write_text("".join(f"{i} {n}\n" for i, n in enumerate(names, 1)))
    generator = torch.Generator().manual_seed(seed)
    for role, count in (("train", train), ("test", test)):
        digits = MovingDigits(
            images=mnist(split=role), frames=frames, side=side, digit=max(2, side * 14 // 64), still=2, clutter=4
        )
        lines = []
        for label, (title, name) in enumerate(zip(_CLASSES, names, strict=True), 1):
            clips = _of_class(digits, digits.classes.index(title), count, generator)
            for i, clip in enumerate(clips):
                video = f"{name}/v_{name}_g{i + 1 if role == 'test' else test + i + 1:02}_c01"
                _write(place / "frames" / video, clip)
                lines.append(f"{video}.avi {label}" if role == "train" else f"{video}.avi")
        (place / "splits" / f"{role}list01.txt").write_text("\n".join(lines) + "\n")


def _name(title: str) -> str:
    return "Digits" + title.split(",")[0].title().replace(" ", "")


def _of_class(digits: MovingDigits, label: int, count: int, generator: torch.Generator) -> torch.Tensor:
    found: list[torch.Tensor] = []
    while len(found) < count:
        clips, labels = digits.draw(4 * len(digits.classes), generator)
        found += list(clips[labels == label])
    return torch.stack(found[:count])


def _write(folder: Path, clip: torch.Tensor) -> None:
    folder.mkdir(parents=True)
    for i, frame in enumerate(clip[:, 0].numpy(), 1):
        Image.fromarray(frame).convert("RGB").save(folder / f"frame{i:04}.jpg", quality=92)
