"""Checkpoints: safetensors with the network's name and a training record.

Floating-point tensors are float16. In a compact file a weight w of two or more
dimensions is int8 integers i of its shape, and beside it, as `<name>.exponent`, an
int8 exponent e for each output channel: w[k] = i[k] · 2^e[k].
"""

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

__all__ = ["Checkpoint", "checkpoints", "power_above", "read_checkpoint", "round_half", "save_checkpoint"]

_EXPONENT = ".exponent"
_TOP = 127


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
    compact: bool = False,
) -> None:
    """Write a network as safetensors, whole or not at all.

    Args:
        path: the file to write.
        model: its weights must be float16 values already (see `round_half`).
        name: name of the network's builder.
        arguments: the builder's arguments.
        record: JSON values kept in the file's header.
        compact: weights of two or more dimensions in bytes.

    Raises:
        ConfigError: a weight would change in float16, or in bytes.
        DataError: the file cannot be written.
    """
    tensors = {}
    for key, tensor in model.state_dict().items():
        stored = tensor.detach().cpu().contiguous()
        if stored.is_floating_point():
            half = stored.half()
            if not torch.equal(half.to(stored.dtype), stored):
                raise ConfigError(f"{key} is not rounded to float16 values; call round_half first")
            if compact and stored.ndim > 1:
                tensors[key], tensors[key + _EXPONENT] = _to_bytes(key, stored)
                continue
            stored = half
        tensors[key] = stored
    metadata = {"model": name, "arguments": json.dumps(dict(arguments)), "record": json.dumps(dict(record))}
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(save(tensors, metadata))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as e:
        raise DataError(f"cannot write checkpoint {target}: {e.strerror or e}; name a file that you may write") from e


def power_above(x: Tensor) -> Tensor:
    """Return the least power of two that is at least `x`, exactly; 0 for 0.

    >>> power_above(torch.tensor([3.0, 4.0, 0.0, 0.3]))
    tensor([4.0000, 4.0000, 0.0000, 0.5000])
    """
    mantissa, _ = torch.frexp(x)
    power = x / mantissa
    return torch.where(mantissa == 0.5, power / 2, power).nan_to_num(0.0)


def _to_bytes(key: str, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return integers and exponents of a weight that lies on the grids of its rows."""
    rows = weight.double().flatten(1)
    step = power_above(rows.abs().amax(1) / _TOP)
    step = torch.where(step == 0, torch.ones_like(step), step)
    whole = rows / step.unsqueeze(1)
    exponent = torch.frexp(step)[1] - 1
    if not torch.equal(whole, whole.round()) or bool((exponent.abs() > _TOP).any()):
        raise ConfigError(f"{key} does not lie on 8-bit grids; call make_exact with bits first, or leave compact out")
    return whole.to(torch.int8).view(weight.shape), exponent.to(torch.int8)


def _unpacked(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of a file's tensors.

    Raises:
        ValueError: integers and exponents do not belong together.
    """
    found = {}
    for key, tensor in tensors.items():
        if key.endswith(_EXPONENT):
            weight = tensors.get(key.removesuffix(_EXPONENT))
            if weight is None or weight.dtype != torch.int8 or weight.ndim < 2:
                raise ValueError(f"{key} has no weight in bytes")
            continue
        found[key] = tensor.float() if tensor.is_floating_point() else tensor
        if tensor.dtype == torch.int8:
            exponent = tensors.get(key + _EXPONENT)
            if exponent is None or exponent.dtype != torch.int8 or exponent.shape != tensor.shape[:1]:
                raise ValueError(f"{key} is in bytes, but has no fitting exponents")
            step = torch.tensor([2.0**e for e in exponent.tolist()])
            found[key] = tensor.float() * step.view(-1, *[1] * (tensor.ndim - 1))
    return found


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
            tensors=_unpacked(tensors),
        )
    except (SafetensorError, KeyError, ValueError, OSError) as e:
        raise DataError(f"{path} is not a checkpoint of sparseflow or is damaged: {e}") from e
