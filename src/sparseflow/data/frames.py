"""Recordings frame by frame: windows of features with the place at their end, cut out when they are asked for."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseflow.data.npz_xy import read_array
from sparseflow.errors import ConfigError, DataError

__all__ = ["LABELS", "Frames", "frames_lazy"]

LABELS = ("current", "next")
_GAP = 1.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """Windows of one role of a recording.

    With label "current" the window of frame t is [t - K + 1, t], and the answer y[t] is the place at its last frame.
    With "next" it is [t - K, t - 1], and y[t] is the place one frame after all that is seen. (The earlier project cut
    the second and called its answer the current one: it forecast a frame that it never saw.)

    Args:
        feats: `[T, Din]`, may lie on disk.
        xy: `[T, 2]` float32.
        index: `[N]` frames t whose place is asked for.
        window: K.
        label: "current" or "next".
        mean: `[Din]` float32, of the frames that the windows of the training see.
        std: `[Din]` float32, likewise, not below the floor.
    """

    feats: NDArray[Any]
    xy: NDArray[np.float32]
    index: NDArray[np.int64]
    window: int
    label: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    def __len__(self) -> int:
        """Return the number of windows N."""
        return len(self.index)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return some windows `[B, Din, K]`, scaled, and their places `[B, 2]`.

        Args:
            index: `[B]` int64 on the CPU, which windows.
        """
        at = self.index[index.numpy()]
        seen = at[:, None] + _offsets(self.window, self.label)
        x = (np.asarray(self.feats[seen], np.float32) - self.mean) / self.std
        return torch.from_numpy(x.transpose(0, 2, 1)), torch.from_numpy(self.xy[at])


def frames_lazy(
    path: str | os.PathLike[str],
    roles: str | os.PathLike[str],
    *,
    window: int,
    label: str = "current",
    floor: float = 1e-6,
) -> dict[str, Frames]:
    """Open a recording and cut it into windows by role.

    A window that would begin before the recording, or reach over a gap in its time stamps (a step above 1.5 times the
    median one), is left out.

    Args:
        path: an .npz file with `feats [T, Din]`, `xy [T, 2]` and perhaps `ts [T]`, or a folder with them as .npy, of
            which `feats` stays on disk.
        roles: JSON, `{"train": [frames], "val": […], …}` or `[{"role": "train", "indices": […]}, …]`; a frame is
            one whose place is asked for.
        window: K, frames seen.
        label: "current" for the place at the last frame seen, "next" for that of the frame after it.
        floor: smallest deviation that is divided by.

    Returns:
        Windows by role; mean and deviation are those of "train" everywhere.

    Raises:
        ConfigError: a window below 1, or no such label.
        DataError: damaged files, arrays that do not fit, a frame beyond the recording or in two roles, no role
            "train", or a role without any window.
    """
    if window < 1:
        raise ConfigError(f"window is {window}; expected at least 1 frame")
    if label not in LABELS:
        raise ConfigError(f"label is {label!r}; expected one of {', '.join(LABELS)}")
    if not floor > 0:
        raise ConfigError(f"floor is {floor}; expected more than 0")
    root = Path(path)
    feats, places = read_array(root, "", "feats", lazy=True), read_array(root, "", "xy")
    if feats.ndim != 2 or not feats.size or feats.dtype.kind not in "fiu":
        raise DataError(f"{root}: feats is {feats.dtype} {feats.shape}; expected numbers [T, Din]")
    if places.shape != (len(feats), 2) or places.dtype.kind not in "fiu":
        raise DataError(f"{root}: xy is {places.dtype} {places.shape}; expected numbers [{len(feats)}, 2]")
    xy = np.ascontiguousarray(places, np.float32)
    run = _runs(root, len(feats))
    offsets = _offsets(window, label)
    kept: dict[str, NDArray[np.int64]] = {}
    for role, at in _roles(Path(roles), len(feats)).items():
        inside = at + offsets[0] >= 0
        at = at[inside]
        whole = at[run[at] == run[at + offsets[0]]]
        if not len(whole):
            raise DataError(f"{roles}: no window of {window} frames fits into role {role!r}")
        if not np.isfinite(xy[whole]).all():
            raise DataError(f"{root}: a place of role {role!r} is not finite")
        kept[role] = whole
    mean, std = _statistics(feats, np.unique(kept["train"][:, None] + offsets), floor)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise DataError(f"{root}: a feature of the training frames is not finite")
    return {
        role: Frames(feats=feats, xy=xy, index=at, window=window, label=label, mean=mean, std=std)
        for role, at in kept.items()
    }


def _offsets(window: int, label: str) -> NDArray[np.int64]:
    return np.arange(-window, 0, dtype=np.int64) + (label == "current")


def _runs(root: Path, frames: int) -> NDArray[np.int64]:
    """Return for each frame the number of gaps in time before it."""
    if not _has_stamps(root):
        return np.zeros(frames, np.int64)
    ts = read_array(root, "", "ts").astype(np.float64)
    steps = np.diff(ts)
    if ts.shape != (frames,) or not (steps > 0).all():
        raise DataError(f"{root}: ts is no rising row of {frames} time stamps")
    gaps = steps > _GAP * np.median(steps) if len(steps) else np.zeros(0, bool)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(gaps)])


def _has_stamps(root: Path) -> bool:
    if root.is_dir():
        return (root / "ts.npy").exists()
    with np.load(root, allow_pickle=False) as found:
        return "ts" in found.files


def _roles(path: Path, frames: int) -> dict[str, NDArray[np.int64]]:
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(body, list):
            body = {entry["role"]: entry["indices"] for entry in body}
        if not isinstance(body, Mapping):
            raise TypeError("neither an object nor a list")
        found = {str(role): np.array(at, np.int64) for role, at in body.items()}
        if any(at.ndim != 1 or not np.array_equal(at, np.array(body[role])) for role, at in found.items()):
            raise TypeError("a role holds something else than whole numbers")
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"cannot read {path}: {e}") from e
    except (ValueError, TypeError, KeyError, OverflowError) as e:
        raise DataError(f'{path} is no list of frames by role, as {{"train": [0, 1], "val": [2]}}: {e}') from e
    if "train" not in found:
        raise DataError(f"{path} has no role 'train'; it has {', '.join(found) or 'none'}")
    every = np.concatenate(list(found.values()))
    if len(every) and not (every.min() >= 0 and every.max() < frames):
        raise DataError(f"{path} names frame {every[(every < 0) | (every >= frames)][0]}; there are {frames}")
    if len(np.unique(every)) != len(every):
        raise DataError(f"{path} names a frame twice; one in two roles would leak from training into the test")
    return found


def _statistics(
    feats: NDArray[Any], rows: NDArray[np.int64], floor: float, chunk: int = 4096
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and deviation of some frames in float64, reading a part at a time."""
    parts = [rows[i : i + chunk] for i in range(0, len(rows), chunk)]
    mean = sum(np.asarray(feats[p], np.float64).sum(0) for p in parts) / len(rows)
    var = sum(np.square(np.asarray(feats[p], np.float64) - mean).sum(0) for p in parts) / len(rows)
    return np.asarray(mean, np.float32), np.maximum(np.sqrt(var), floor).astype(np.float32)
