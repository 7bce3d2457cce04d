"""Inputs with their answers in .npz files: `X_train`, `y_train`, `X_val`, `y_val`, or a folder of `feats` and `xy`."""

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparseflow.errors import DataError

__all__ = ["Pairs", "npz_xy", "read_array"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Inputs and their answers, one a row.

    Args:
        x: `[N, …]` float32, as `[N, V, L]` for a forecaster.
        y: `[N, …]` float32, as `[N, V, F]` for a forecaster or `[N, 2]` for a place.

    Raises:
        DataError: none, or another number of answers than inputs.
    """

    x: Tensor
    y: Tensor

    def __post_init__(self) -> None:
        """Check the fields."""
        if not len(self.x) or len(self.x) != len(self.y):
            raise DataError(f"{len(self.x)} inputs and {len(self.y)} answers; expected as many, and some")

    def __len__(self) -> int:
        """Return the number of pairs N."""
        return len(self.x)

    @property
    def variates(self) -> int:
        """Number of variates V of an input `[V, L]`."""
        return self.x.shape[1]

    def to(self, device: torch.device | str) -> "Pairs":
        """Return the pairs on a device."""
        return Pairs(x=self.x.to(device), y=self.y.to(device))

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs and answers of some rows."""
        return self.x[index], self.y[index]


def npz_xy(path: str | os.PathLike[str]) -> tuple[Pairs, Pairs]:
    """Load the pairs to train on and those to choose by.

    Args:
        path: an .npz file with `X_train`, `y_train`, `X_val`, `y_val`, each `[N, …]`; or a folder with `train` and
            `val`, each an .npz file with `feats` and `xy` or a folder with `feats.npy` and `xy.npy`.

    Returns:
        Train and val, in float32.

    Raises:
        DataError: a missing, damaged or pickled array, one that is not numeric or not finite, or parts whose rows
            have other shapes; names file and array.
    """
    path = Path(path)
    if path.is_dir():
        parts = [(read_array(path, part, "feats"), read_array(path, part, "xy")) for part in ("train", "val")]
    else:
        parts = [(_member(path, f"X_{part}"), _member(path, f"y_{part}")) for part in ("train", "val")]
    (x, y), (x_val, y_val) = parts
    for name, a, b in (("inputs", x, x_val), ("answers", y, y_val)):
        if a.shape[1:] != b.shape[1:]:
            raise DataError(f"{path}: {name} to train on are {a.shape[1:]}, those of val {b.shape[1:]}")
    train, val = (Pairs(x=_tensor(path, a), y=_tensor(path, b)) for a, b in parts)
    return train, val


def read_array(folder: Path, part: str, name: str, *, lazy: bool = False) -> NDArray[np.generic]:
    """Return the array `name` of `{part}.npz`, or that of `{part}/{name}.npy`.

    Args:
        folder: where they lie.
        part: file or folder of that name; "" for the folder itself.
        name: of the array.
        lazy: leave an .npy file on disk until it is read; an .npz file is always read whole.

    Raises:
        DataError: there is neither, or it is damaged or pickled.
    """
    single = folder / part / f"{name}.npy" if part else folder / f"{name}.npy"
    if not single.is_file():
        bundle = folder / f"{part}.npz" if part else folder
        if not bundle.is_file():
            raise DataError(f"{folder} holds neither {part or folder.name}.npz nor {single.relative_to(folder)}")
        return _member(bundle, name)
    try:
        array: NDArray[np.generic] = np.load(single, mmap_mode="r" if lazy else None, allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise DataError(f"{single} is damaged or holds pickled objects: {e}") from e
    return array


def _member(path: Path, name: str) -> NDArray[np.generic]:
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise DataError(f"{path} is a single array; expected an .npz file with {name}")
        with found:
            if name not in found.files:
                raise DataError(f"{path} has no array {name}; it holds {', '.join(found.files) or 'none'}")
            array: NDArray[np.generic] = found[name]
    except DataError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise DataError(f"{path}, array {name}: damaged, pickled or no .npz file: {e}") from e
    return array


def _tensor(path: Path, array: NDArray[np.generic]) -> Tensor:
    if array.dtype.kind not in "fiu" or array.ndim < 1:
        raise DataError(f"{path}: an array of {array.dtype} and shape {array.shape}; expected numbers, one row a pair")
    values = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{path}: row {int(np.argwhere(~np.isfinite(values))[0][0])} holds a value that is not finite")
    return torch.from_numpy(values)
