"""UCF101 as its users lay it out: folders of frames or video files by class, and the official lists.

Source: Soomro, Zamir, Shah, UCF101, CRCV-TR-12-01, 2012.
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from sparseflow.errors import ConfigError, DataError

__all__ = ["Video", "VideoList", "read_list", "ucf101"]

ROLES = ("train", "test")
_VIDEO_ENDINGS = (".avi", ".mp4", ".mkv", ".webm", ".mov")
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """One video.

    Args:
        name: as the list calls it, without an ending: "Archery/v_Archery_g01_c01".
        path: folder of its frames, or a video file.
        label: index of its class.
    """

    name: str
    path: Path
    label: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoList:
    """The videos of one role of a split.

    Args:
        name: data set.
        role: "train" or "test".
        videos: in the order of the list.
        classes: names by label.
    """

    name: str
    role: str
    videos: tuple[Video, ...]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of videos."""
        return len(self.videos)


def read_list(path: Path) -> tuple[tuple[str, int | None], ...]:
    """Return the lines of a list: names as `Class/v_Class_g01_c01`, and the number beside each, which tests lack.

    Endings as `.avi` are dropped; blank lines are skipped; line ends may be of any system.

    Raises:
        DataError: missing, empty, a name twice, or a line that is none; names file and line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as e:
        raise DataError(
            f"{path} is missing; UCF101's lists (ucfTrainTestlist) belong into the folder splits, beside frames"
        ) from e
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read {path}: {e}") from e
    found: dict[str, int | None] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        stem, ending = os.path.splitext(words[0])
        name = stem if ending.lower() in _VIDEO_ENDINGS else words[0]
        label = words[1] if len(words) == 2 else None
        # A name leads to a path below the data set, and to nowhere else.
        plain = name.count("/") == 1 and not any(part in ("", ".", "..") for part in name.split("/"))
        if len(words) > 2 or not plain or (label is not None and not label.isdecimal()):
            raise DataError(f"{path}, line {number}: {line.strip()!r} is no 'Class/video.avi' with perhaps a number")
        if name in found:
            raise DataError(f"{path}, line {number}: {name} stands there twice")
        found[name] = None if label is None else int(label)
    if not found:
        raise DataError(f"{path} names no video")
    return tuple(found.items())


def ucf101(root: str | os.PathLike[str], *, split: int = 1, role: str = "train") -> VideoList:
    """Open UCF101, or any set in its layout.

    ```
    root/frames/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01/*.jpg     or     root/videos/ApplyEyeMakeup/v_…_c01.avi
    root/splits/trainlist01.txt, testlist01.txt                   and perhaps root/splits/classInd.txt
    ```

    Classes are those of `classInd.txt`, else those of the training list in the order of their numbers, else of their
    names. Frames win over a video file of the same name.

    Args:
        root: the folder.
        split: 1, 2 or 3 of the official ones, or any whose lists are there.
        role: "train" or "test".

    Raises:
        ConfigError: unknown role, or a split below 1.
        DataError: missing or damaged lists, a listed video that is not there, a class without videos to train on, or
            a test video of an unknown class; names it.
    """
    if role not in ROLES or split < 1:
        raise ConfigError(f"role is {role!r} and split {split}; expected one of {', '.join(ROLES)}, and a split from 1")
    base = Path(root)
    if not base.is_dir():
        raise DataError(f"{base} is no folder; expected UCF101 with frames/ (or videos/) and splits/ in it")
    train = read_list(base / "splits" / f"trainlist{split:02}.txt")
    classes = _classes(base / "splits", train)
    if empty := [c for c in classes if c not in {name.split("/")[0] for name, _ in train}]:
        raise DataError(f"class {empty[0]} has no video in trainlist{split:02}.txt of {base / 'splits'}")
    listed = train if role == "train" else read_list(base / "splits" / f"testlist{split:02}.txt")
    numbers = {name: i for i, name in enumerate(classes)}
    videos, missing = [], []
    for name, _ in listed:
        of_class = name.split("/")[0]
        if of_class not in numbers:
            raise DataError(f"{role}list{split:02}.txt of {base / 'splits'}: class {of_class} of {name} is unknown")
        path = _place(base, name)
        if path is None:
            missing.append(name)
        else:
            videos.append(Video(name=name, path=path, label=numbers[of_class]))
    if missing:
        lost = Counter(name.split("/")[0] for name in missing)
        some = ", ".join(missing[:_NAMED]) + (" and others" if len(missing) > _NAMED else "")
        raise DataError(
            f"{base}: {len(missing)} of {len(listed)} videos of {role}list{split:02}.txt are neither in frames/ nor in "
            f"videos/ (of {len(lost)} classes): {some}"
        )
    return VideoList(name="ucf101", role=role, videos=tuple(videos), classes=classes)


def _classes(folder: Path, train: tuple[tuple[str, int | None], ...]) -> tuple[str, ...]:
    index = folder / "classInd.txt"
    if index.is_file():
        try:
            pairs = [line.split() for line in index.read_text(encoding="utf-8").splitlines() if line.strip()]
            numbered = {name: int(number) for number, name in pairs}
        except (OSError, ValueError) as e:
            raise DataError(f"{index} is no list of '1 ApplyEyeMakeup' lines: {e}") from e
        if len(numbered) != len(pairs) or len(set(numbered.values())) != len(pairs):
            raise DataError(f"{index} names a class or a number twice")
        return tuple(sorted(numbered, key=numbered.__getitem__))
    found: dict[str, int | None] = {}
    for name, number in train:
        of_class = name.split("/")[0]
        if found.setdefault(of_class, number) != number:
            raise DataError(f"{folder}: class {of_class} has the numbers {found[of_class]} and {number}")
    named = {c: n for c, n in found.items() if n is not None}
    return tuple(sorted(named, key=named.__getitem__)) if len(named) == len(found) else tuple(sorted(found))


def _place(base: Path, name: str) -> Path | None:
    folder = base / "frames" / name
    if folder.is_dir():
        return folder
    files = [base / "videos" / f"{name}{ending}" for ending in _VIDEO_ENDINGS]
    return next((f for f in files if f.is_file()), None)
