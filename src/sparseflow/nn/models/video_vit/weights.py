"""Files of a VideoViT: its own, and those of image transformers (timm) and VideoMAE that it can start from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.cmamba.files import Stored, read_stored, write_stored
from sparseflow.nn.models.cmamba.primitives import sincos
from sparseflow.nn.models.video_vit.args import VideoViTArgs
from sparseflow.nn.models.video_vit.model import VideoViT

__all__ = ["PretrainedReport", "load_pretrained", "load_video", "save_video"]

_WRAPPERS = ("_orig_mod.", "module.", "model.", "backbone.", "encoder.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainedReport:
    """What became of a published file's tensors.

    Args:
        loaded: names of the network that were filled from the file.
        fresh: names of the network that kept their own values, as a classifier of other classes.
        unused: names of the file that the network has no place for.
    """

    loaded: tuple[str, ...]
    fresh: tuple[str, ...]
    unused: tuple[str, ...]


def save_video(path: str | os.PathLike[str], model: VideoViT, *, record: Mapping[str, Any] | None = None) -> None:
    """Write a network's weights and arguments as `.safetensors` (to be preferred), `.npz` or `.pt`.

    The same weights give the same bytes; sliced networks are written like others.

    Args:
        path: the file; its ending chooses the format.
        model: the network.
        record: JSON values to keep beside, as how it was trained and what it reached.

    Raises:
        ConfigError: another ending, or a record that is not JSON.
        DataError: the file cannot be written.
    """
    metadata: dict[str, Any] = {"video_vit": model.arguments, "record": dict(record or {})}
    write_stored(path, Stored(tensors=model.state_dict(), metadata=metadata))


def load_video(path: str | os.PathLike[str]) -> tuple[VideoViT, dict[str, Any]]:
    """Build the network of a file, load its weights, and set it to eval.

    Args:
        path: a file of `save_video`.

    Returns:
        The network on the CPU, and the record.

    Raises:
        ConfigError: another ending.
        DataError: the file is damaged, does not fit, or is not a VideoViT's.
    """
    stored = read_stored(path)
    arguments = stored.metadata.get("video_vit")
    if not isinstance(arguments, Mapping):
        raise DataError(
            f"{path} holds no VideoViT; for weights of others build one and use load_pretrained(model, path)"
        )
    try:
        model = VideoViT(**arguments)
        model.load_state_dict(dict(stored.tensors))
    except (ConfigError, TypeError, RuntimeError) as e:
        raise DataError(f"{path} does not fit the network that it names: {e}") from e
    return model.eval(), dict(stored.metadata.get("record", {}))


def load_pretrained(
    model: VideoViT, path: str | os.PathLike[str], *, key_map: Mapping[str, str] | None = None
) -> PretrainedReport:
    """Start from the weights of an image transformer (timm's names) or of VideoMAE, in a local file.

    Patches of an image are inflated to tubelets: each frame gets 1/tubelet_size of the kernel, so that a still clip
    embeds as its image; tubelets are summed where the network has single frames. Positions of an image serve every
    frame, interpolated (bicubic) to another grid, and times start at 0. VideoMAE's fixed table is computed (positions
    "joint"). Query and value biases (q_bias, v_bias) become one, layer scales are multiplied into the projections.

    Args:
        model: takes the weights in place.
        path: `.safetensors`, `.npz`, `.pt` or `.pth`; nothing in it is executed.
        key_map: name in the file to name in timm's scheme, for files of other schemes.

    Returns:
        What was loaded, what stayed fresh (the classifier, if the classes differ), and what was not used.

    Raises:
        ConfigError: `key_map` names what the file lacks, or another ending.
        DataError: the file is damaged, or lacks a block, or a tensor does not fit; nothing was loaded.
    """
    tensors = {k: t.float() for k, t in read_stored(path).tensors.items() if t.is_floating_point()}
    if absent := [k for k in key_map or {} if k not in tensors]:
        raise ConfigError(f"key_map names {', '.join(absent)}, which {path} lacks; it has {', '.join(tensors)}")
    tensors = {(key_map or {}).get(k, k): t for k, t in tensors.items()}
    found = _Published(_unwrapped(tensors), model.args, str(path))
    own = model.state_dict()
    filled = found.renamed()
    taken, fresh = {}, []
    for key, tensor in own.items():
        optional = key.startswith(("head.", "time_embed", "pruner."))
        if key not in filled or (key.startswith("head.") and filled[key].shape != tensor.shape):
            if not optional:
                raise DataError(f"{path} has no tensor for {key}; nothing was loaded. Is it of this family and depth?")
            fresh.append(key)
        elif filled[key].shape != tensor.shape:
            raise DataError(
                f"{path}: {key} has shape {list(filled[key].shape)}, the network needs {list(tensor.shape)}; nothing "
                "was loaded. Build the network with the file's sizes"
            )
        elif not bool(torch.isfinite(filled[key]).all()):
            raise DataError(f"{path}: {key} is not finite; nothing was loaded")
        else:
            taken[key] = filled[key]
    model.load_state_dict(taken, strict=False)
    return PretrainedReport(
        loaded=tuple(taken), fresh=tuple(fresh), unused=tuple(sorted(set(filled) - set(own) | found.left))
    )


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take wrappers' prefixes off; of an auto-encoder keep the encoder."""
    if any(k.startswith("decoder.") for k in tensors):
        tensors = {k: t for k, t in tensors.items() if k.startswith("encoder.")}
    while prefix := next((p for p in _WRAPPERS if tensors and all(k.startswith(p) for k in tensors)), None):
        tensors = {k.removeprefix(prefix): t for k, t in tensors.items()}
    return tensors


class _Published:
    """Tensors in timm's scheme, turned into those of a network of given sizes."""

    def __init__(self, tensors: dict[str, Tensor], args: VideoViTArgs, path: str) -> None:
        self.tensors, self.args, self.path = dict(tensors), args, path
        self.left: set[str] = set()

    def renamed(self) -> dict[str, Tensor]:
        """Return tensors by the network's names."""
        self._norm()
        self._patches()
        self._positions()
        self._blocks()
        return self.tensors

    def _drop(self, *keys: str) -> None:
        self.left |= {k for k in keys if self.tensors.pop(k, None) is not None}

    def _norm(self) -> None:
        """The last norm: of the mean `fc_norm`, where a file has it."""
        for part in ("weight", "bias"):
            if (after := self.tensors.pop(f"fc_norm.{part}", None)) is not None:
                self._drop(f"norm.{part}")
                self.tensors[f"norm.{part}"] = after

    def _patches(self) -> None:
        key, frames = "patch_embed.proj.weight", self.args.tubelet_size
        weight = self.tensors.get(key)
        if weight is None:
            return
        if weight.ndim == 4:
            weight = weight.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames
        elif weight.ndim == 5 and frames == 1:
            weight = weight.sum(2, keepdim=True)
        self.tensors[key] = weight

    def _positions(self) -> None:
        a, table = self.args, self.tensors.pop("pos_embed", None)
        if a.pool != "cls":
            self._drop("cls_token")
        if table is None:
            if a.positions == "joint":
                self.tensors["pos_embed"] = sincos(a.tokens, a.embed_dim)[None]
            return
        table = table.reshape(1, -1, table.shape[-1])
        rows = table.shape[1]
        if rows in (a.tokens, a.tokens + 1) and a.positions == "joint":
            first, table = table[:, : rows - a.tokens], table[:, rows - a.tokens :]
        else:
            side = int((rows - 1) ** 0.5)
            first, table = (table[:, :1], table[:, 1:]) if side * side == rows - 1 else (table[:, :0], table)
            table = self._resized(table)
            if a.positions == "joint":
                table = table.repeat(1, a.times, 1)
            else:
                self.tensors["time_embed"] = torch.zeros(1, a.times, table.shape[-1])
        self.tensors["pos_embed"] = table
        if "cls_token" in self.tensors and first.shape[1]:
            self.tensors["cls_token"] = self.tensors["cls_token"] + first

    def _resized(self, table: Tensor) -> Tensor:
        side = int(table.shape[1] ** 0.5)
        if side * side != table.shape[1]:
            raise DataError(
                f"{self.path}: pos_embed holds {table.shape[1]} places, which is no square; name its scheme"
            )
        if (side, side) == self.args.grid:
            return table
        image = table.reshape(1, side, side, -1).permute(0, 3, 1, 2)
        image = F.interpolate(image, size=self.args.grid, mode="bicubic", align_corners=False, antialias=False)
        return image.flatten(2).transpose(1, 2)

    def _blocks(self) -> None:
        for i in range(self.args.depth):
            at = f"blocks.{i}"
            query, value = (self.tensors.pop(f"{at}.attn.{name}_bias", None) for name in "qv")
            if query is not None and value is not None:
                self.tensors[f"{at}.attn.qkv.bias"] = torch.cat([query, torch.zeros_like(query), value])
            for scale, layer in (("ls1", "attn.proj"), ("ls2", "mlp.fc2")):
                factors = self.tensors.pop(f"{at}.{scale}.gamma", None)
                if factors is None:
                    continue
                for key in (f"{at}.{layer}.weight", f"{at}.{layer}.bias"):
                    if (old := self.tensors.get(key)) is not None:
                        self.tensors[key] = old * factors.view(-1, *[1] * (old.ndim - 1))
