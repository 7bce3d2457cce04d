"""Checkpoints: float16 safetensors with the network's name and a training record."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from sparseflow.errors import ConfigError, DataError

__all__ = ["Checkpoint", "checkpoints", "read_checkpoint", "round_half", "save_checkpoint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What one file holds.

    Args:
        model: name of the network's builder.
        arguments: its arguments.
        record: how it was trained and what it reached.
        tensors: state dict; floating-point tensors in float32.
    """

    model: str
    arguments: Mapping[str, Any]
    record: dict[str, Any]
    tensors: Mapping[str, Tensor]

    def load_into(self, model: nn.Module) -> None:
        """Load the tensors.

        Raises:
            DataError: names or shapes do not fit.
        """
        try:
            model.load_state_dict(dict(self.tensors))
        except RuntimeError as e:
            raise DataError(f"checkpoint of {self.model!r} does not fit the network: {e}") from e


def _shipped() -> Path:
    return Path(__file__).parents[2] / "assets" / "checkpoints"


def checkpoints() -> tuple[str, ...]:
    """Return the names of the shipped checkpoints."""
    return tuple(sorted(p.stem for p in _shipped().glob("*.safetensors")))


def round_half(model: nn.Module) -> None:
    """Round every floating-point parameter and buffer to a float16 value, in place.

    Raises:
        ConfigError: a value is not finite in float16.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                half = tensor.half()
                if not bool(torch.isfinite(half).all()):
                    raise ConfigError(f"{name} holds values that float16 cannot; the checkpoint would be broken")
                tensor.copy_(half)


def save_checkpoint(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    name: str,
    arguments: Mapping[str, Any],
    record: Mapping[str, Any],
) -> None:
    """Write a network as float16 safetensors, whole or not at all.

    Args:
        path: the file to write.
        model: its weights must be float16 values already (see `round_half`).
        name: name of the network's builder.
        arguments: the builder's arguments.
        record: JSON values kept in the file's header.

    Raises:
        ConfigError: a weight would change in float16.
    """
    tensors = {}
    for key, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        if stored.is_floating_point():
            half = stored.half()
            if not torch.equal(half.to(stored.dtype), stored):
                raise ConfigError(f"{key} is not rounded to float16 values; call round_half first")
            stored = half
        tensors[key] = stored
    metadata = {"model": name, "arguments": json.dumps(dict(arguments)), "record": json.dumps(dict(record))}
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        partial.write_bytes(save(tensors, metadata))
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(name_or_path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint by shipped name or by path.

    Raises:
        DataError: there is none, or the file is damaged.
    """
    path = Path(name_or_path)
    if path.suffix != ".safetensors":
        path = _shipped() / f"{name_or_path}.safetensors"
    if not path.is_file():
        known = ", ".join(checkpoints()) or "none"
        raise DataError(f"no checkpoint {str(name_or_path)!r}; shipped: {known}; or give a .safetensors path")
    try:
        with safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118
        return Checkpoint(
            model=metadata["model"],
            arguments=json.loads(metadata["arguments"]),
            record=json.loads(metadata["record"]),
            tensors={k: v.float() if v.is_floating_point() else v for k, v in tensors.items()},
        )
    except (SafetensorError, KeyError, json.JSONDecodeError, OSError) as e:
        raise DataError(f"{path} is not a checkpoint of sparseflow or is damaged: {e}") from e
