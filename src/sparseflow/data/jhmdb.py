"""J-HMDB's joint tracks of real actions, drawn as volumes of heat maps; the videos themselves are not part of them.

Source: Jhuang, Gall, Zuffi, Schmid, Black, Towards Understanding Action Recognition, ICCV 2013; drawn as Duan et al.,
Revisiting Skeleton-based Action Recognition (PoseC3D), CVPR 2022.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparseflow.data._constants import constant
from sparseflow.data.npz_xy import read_array
from sparseflow.errors import ConfigError, DataError

__all__ = ["JOINTS", "JointTracks", "jhmdb"]

JOINTS = (
    "neck", "belly", "face", "right shoulder", "left shoulder", "right hip", "left hip", "right elbow", "left elbow",
    "right knee", "left knee", "right wrist", "left wrist", "right ankle", "left ankle",
)  # fmt: skip
_MIRRORED = (0, 1, 2, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13)
_ARRAYS = ("pose", "offsets", "label", "classes", "split")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JointTracks:
    """The clips of one role of an official split.

    Args:
        role: "train" or "test".
        pose: `[F, 15, 2]` float32, x to the right and y down, of all frames of all clips, about centre and size of
            the person.
        offsets: `[N + 1]` int64, clip i is `pose[offsets[i]:offsets[i + 1]]`.
        labels: `[N]` int64.
        classes: names by label.
    """

    role: str
    pose: Tensor
    offsets: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """Return the number of clips N."""
        return len(self.labels)

    def to(self, device: torch.device) -> "JointTracks":
        """Return the tracks on a device."""
        pose, offsets, labels = (t.to(device) for t in (self.pose, self.offsets, self.labels))
        return JointTracks(role=self.role, pose=pose, offsets=offsets, labels=labels, classes=self.classes)

    def volumes(
        self,
        index: Tensor,
        *,
        frames: int = 8,
        side: int = 64,
        sigma: float = 1.5,
        reach: float = 1.2,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw clips: in frame t and channel j, exp(-|p - x_tj|² / 2σ²) at pixel p of joint j's place x_tj.

        Frames are the first of T even parts of a clip each. With a generator they are drawn within their parts, the
        person is scaled by 0.8 to 1.2, moved by up to 0.1 and in half of the clips mirrored, left and right joints
        exchanged.

        Args:
            index: `[B]` int64 clips, on the tracks' device.
            frames: T.
            side: S, pixels of height and width.
            sigma: σ in pixels.
            reach: coordinate that the edge of a frame stands for; J-HMDB's reach from -0.9 to 0.9, nearly all.
            generator: draws the changes of a training; None for none.

        Returns:
            `[B, T, 15, S, S]` float32, 0 to 1.

        Raises:
            ConfigError: a size that is not positive.
        """
        if frames < 1 or side < 1 or not sigma > 0 or not reach > 0:
            raise ConfigError(f"frames {frames}, side {side}, sigma {sigma}, reach {reach}; expected more than 0")
        device, n = self.pose.device, len(index)
        first, length = self.offsets[index], self.offsets[index + 1] - self.offsets[index]
        part = torch.arange(frames, device=device).expand(n, frames).float()
        if generator is not None:
            part = part + torch.rand(n, frames, generator=generator, device=device)
        at = torch.minimum((part * length[:, None] / frames).long(), length[:, None] - 1) + first[:, None]
        pose = self.pose[at]
        if generator is not None:
            drawn = torch.rand(4, n, 1, 1, generator=generator, device=device)
            mirror = (drawn[0] < 0.5)[..., None]
            flipped = pose[:, :, constant(_MIRRORED, device)] * constant((-1, 1), device, torch.float32)
            pose = torch.where(mirror, flipped, pose) * (0.8 + 0.4 * drawn[1])[..., None]
            pose = pose + 0.2 * (torch.stack([drawn[2], drawn[3]], -1) - 0.5)
        pixel = (pose / reach + 1) * (side / 2) - 0.5
        grid = torch.arange(side, device=device)
        # A Gaussian is the product of one along each axis.
        across, down = torch.exp(-(grid - pixel[..., None]).square() / (2 * sigma * sigma)).unbind(3)
        return down[..., :, None] * across[..., None, :]


def jhmdb(path: str | os.PathLike[str], *, split: int = 1, role: str = "train") -> JointTracks:
    """Load the joint tracks of an official split: about 433 clips to train on and 176 for the test, 14 classes.

    Args:
        path: the file `jhmdb14_pose.npz`, or the folder that holds it.
        split: 1, 2 or 3.
        role: "train" or "test".

    Raises:
        ConfigError: no such split or role.
        DataError: missing, damaged, or arrays that do not fit together.
    """
    if split not in (1, 2, 3) or role not in ("train", "test"):
        raise ConfigError(f"split is {split!r} and role {role!r}; expected 1, 2 or 3, and 'train' or 'test'")
    file = Path(path) / "jhmdb14_pose.npz" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise DataError(f"{file} is missing; expected J-HMDB's joint tracks in one .npz file")
    pose, offsets, label, classes, splits = (read_array(file, "", name) for name in _ARRAYS)
    n = len(label)
    if pose.ndim != 3 or pose.shape[1:] != (len(JOINTS), 2) or pose.dtype.kind != "f" or not np.isfinite(pose).all():
        raise DataError(f"{file}: pose is {pose.dtype} {pose.shape}; expected finite numbers [F, {len(JOINTS)}, 2]")
    steps = np.diff(offsets.astype(np.int64))
    if offsets.shape != (n + 1,) or splits.shape != (n, 3) or (steps < 1).any() or offsets[-1] != len(pose):
        raise DataError(f"{file}: offsets {offsets.shape} or split {splits.shape} do not fit {n} clips")
    chosen = np.flatnonzero(splits[:, split - 1] == (role == "test"))
    if not len(chosen) or not 0 <= label.min() <= label.max() < len(classes):
        raise DataError(f"{file}: no {role} clips in split {split}, or labels beyond the {len(classes)} classes")
    kept = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen])
    return JointTracks(
        role=role,
        pose=torch.from_numpy(np.ascontiguousarray(pose[kept], np.float32)),
        offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(steps[chosen])]).astype(np.int64)),
        labels=torch.from_numpy(label[chosen].astype(np.int64)),
        classes=tuple(str(name) for name in classes),
    )
