"""Weights of a CMamba: into a file, out of it, from format to format, and from the names of others."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.files import Stored, read_stored, write_stored
from sparseflow.nn.models.cmamba.model import CMamba
from sparseflow.nn.models.cmamba.primitives import sincos

__all__ = ["LoadReport", "convert_weights", "load_model", "load_npz_input", "load_weights", "save_weights"]

# What torch.compile, DataParallel and common training loops put before every name.
_WRAPPERS = ("_orig_mod.", "module.", "model.", "backbone.")
_NOT_THE_NETWORK = ("dropout", "head_dropout", "forecast_dropout", "verbose", "pad_multiple")
_PE = 2e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """How the tensors of a file meet those of a network.

    Args:
        loaded: names that were taken.
        missing: names of the network that the file lacks.
        unexpected: names of the file that the network lacks.
        shapes: tensors of another shape, as "name: [2] in the file, [3] in the network".
        dtypes: tensors of another type, told likewise.
        not_finite: tensors with a NaN or an infinity.
        settings: settings that the file was trained with and the network differs in.
        dropped: tables that the network makes itself, as the published code's positional encoding.
    """

    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    not_finite: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether everything fits."""
        return not str(self)

    def __str__(self) -> str:
        """Return one line for each kind of misfit, with its mend; empty if everything fits."""
        kinds = (
            ("missing in the file", self.missing, "take a file of the whole state dict, or name them by key_map"),
            ("not in the network", self.unexpected, "build the network with the file's sizes, or name them by key_map"),
            ("of another shape", self.shapes, "build the network with the file's sizes"),
            ("of another type", self.dtypes, "convert the file, or pass cast=True for floating-point numbers"),
            ("not finite", self.not_finite, "take a checkpoint from before the training diverged"),
            ("of other settings", self.settings, "build the network with the file's settings, as load_model does"),
        )
        return "\n".join(f"{what}: {'; '.join(names)} ({mend})" for what, names, mend in kinds if names)


def save_weights(path: str | os.PathLike[str], model: CMamba, *, record: Mapping[str, Any] | None = None) -> None:
    """Write a network's weights and settings as `.safetensors` (to be preferred), `.npz` or `.pt`.

    The same weights give the same bytes.

    Args:
        path: the file; its ending chooses the format.
        model: the network.
        record: JSON values to keep beside, as how it was trained and what it reached.

    Raises:
        ConfigError: another ending, or a record that is not JSON.
        DataError: the file cannot be written.
    """
    metadata: dict[str, Any] = {"args": model.args.to_dict(), "record": dict(record or {})}
    write_stored(path, Stored(tensors=model.state_dict(), metadata=metadata))


def convert_weights(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write the content of one file of weights in another's format; there and back gives the same bytes.

    Raises:
        ConfigError: an ending is unknown, or the target's format lacks a type of the source.
        DataError: the source is damaged or missing, or the target cannot be written.
    """
    write_stored(target, read_stored(source))


def load_model(path: str | os.PathLike[str]) -> tuple[CMamba, dict[str, Any]]:
    """Build the network of a file, load its weights, and set it to eval.

    Args:
        path: a file of `save_weights`.

    Returns:
        The network on the CPU, and the record.

    Raises:
        ConfigError: another ending.
        DataError: the file is damaged, does not fit, or holds no settings.
    """
    stored = read_stored(path)
    if "args" not in stored.metadata:
        raise DataError(f"{path} holds no settings of a network; use build_model(args) and load_weights(model, path)")
    try:
        args = ModelArgs.from_dict(stored.metadata["args"])
    except (ConfigError, TypeError) as e:
        raise DataError(f"{path} holds settings that are not valid: {e}") from e
    model = CMamba(args)
    _load(model, path, stored, strict=True, key_map=None, cast=False)
    return model.eval(), dict(stored.metadata.get("record", {}))


def load_weights(
    model: CMamba,
    path: str | os.PathLike[str],
    *,
    strict: bool = True,
    key_map: Mapping[str, str] | None = None,
    cast: bool = False,
) -> LoadReport:
    """Load a file of weights into a network, all or nothing.

    The names of the published code ("official") and of the first design ("seed") are the network's own. Wrappers'
    prefixes as `module.` are taken off; a positional encoding stored with the weights is compared and dropped.

    Args:
        model: where the weights go.
        path: `.safetensors`, `.npz` or `.pt`.
        strict: refuse whatever does not fit; False loads what fits, and reports the rest.
        key_map: name in the file → name in the network, for other names.
        cast: convert between floating-point types.

    Returns:
        What was loaded, and what was not.

    Raises:
        ConfigError: another ending, or `key_map` names what the file lacks.
        DataError: the file is damaged or, if strict, does not fit; names each tensor. The network is unchanged.
    """
    return _load(model, path, read_stored(path), strict=strict, key_map=key_map, cast=cast)


def load_npz_input(path: str | os.PathLike[str]) -> Tensor:
    """Return the series `[B, V, L]` in float32 of an `.npz`: its array "x", or its first.

    Raises:
        ConfigError: another ending.
        DataError: no such file, damaged, a pickle, of another shape, not numbers, or not finite.
    """
    if Path(path).suffix != ".npz":
        raise ConfigError(f"{path} is no .npz file; write the series with numpy.savez(path, x=series)")
    tensors = read_stored(path).tensors
    if not tensors:
        raise DataError(f"{path} holds no array; write the series with numpy.savez(path, x=series)")
    key = "x" if "x" in tensors else next(iter(tensors))
    x = tensors[key]
    if x.ndim != 3:
        raise DataError(f"{path}: {key!r} has shape {list(x.shape)}; expected [B, V, L]: samples, series, time")
    if x.is_complex() or x.dtype == torch.bool:
        raise DataError(f"{path}: {key!r} has the type {_short(x)}; expected real numbers")
    x = x.float()
    if not bool(torch.isfinite(x).all()):
        raise DataError(f"{path}: {key!r} holds a NaN or an infinity; fill or leave out such samples")
    return x


def _load(
    model: CMamba,
    path: str | os.PathLike[str],
    stored: Stored,
    *,
    strict: bool,
    key_map: Mapping[str, str] | None,
    cast: bool,
) -> LoadReport:
    tensors, dropped = _named(model, _renamed(path, stored.tensors, key_map))
    own = model.state_dict()
    found = {k: tensors[k] for k in own if k in tensors}
    shapes = {k: t for k, t in found.items() if t.shape != own[k].shape}
    dtypes = {
        k: t
        for k, t in found.items()
        if t.dtype != own[k].dtype and not (cast and t.is_floating_point() and own[k].is_floating_point())
    }
    not_finite = tuple(k for k, t in found.items() if not bool(torch.isfinite(t).all()))
    taken = {k: t for k, t in found.items() if k not in shapes and k not in dtypes and k not in not_finite}
    report = LoadReport(
        loaded=tuple(taken),
        missing=tuple(f"{k} {list(t.shape)}" for k, t in own.items() if k not in tensors),
        unexpected=tuple(f"{k} {list(t.shape)}" for k, t in tensors.items() if k not in own),
        shapes=tuple(
            f"{k}: {list(t.shape)} in the file, {list(own[k].shape)} in the network" for k, t in shapes.items()
        ),
        dtypes=tuple(f"{k}: {_short(t)} in the file, {_short(own[k])} in the network" for k, t in dtypes.items()),
        not_finite=not_finite,
        settings=_settings(model.args, stored.metadata.get("args")),
        dropped=dropped,
    )
    if strict and not report.ok:
        raise DataError(f"{path} does not fit the network; nothing was loaded\n{report}")
    model.load_state_dict(taken, strict=False)
    return report


def _renamed(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], key_map: Mapping[str, str] | None
) -> dict[str, Tensor]:
    if key_map:
        if absent := [k for k in key_map if k not in tensors]:
            raise ConfigError(f"key_map names {', '.join(absent)}, which {path} lacks; it has {', '.join(tensors)}")
        renamed = [key_map.get(k, k) for k in tensors]
        if twice := sorted({k for k in renamed if renamed.count(k) > 1}):
            raise ConfigError(f"key_map gives several tensors of {path} the name {', '.join(twice)}")
        return dict(zip(renamed, tensors.values(), strict=True))
    return dict(tensors)


def _named(model: CMamba, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Take wrappers' prefixes off, and drop positional encodings that are the network's."""
    while prefix := next((p for p in _WRAPPERS if tensors and all(k.startswith(p) for k in tensors)), None):
        tensors = {k.removeprefix(prefix): t for k, t in tensors.items()}
    tables = tuple(k for k, t in tensors.items() if k.rsplit(".", 1)[-1] == "pe" and _is_pe(t, model.args))
    return {k: t for k, t in tensors.items() if k not in tables}, tables


def _is_pe(table: Tensor, args: ModelArgs) -> bool:
    """Return whether a table `[1, rows, D]` or `[rows, D]` begins with the network's positional encoding."""
    table = table[0] if table.ndim == 3 and table.shape[0] == 1 else table
    if table.ndim != 2 or table.shape[0] < args.num_patches or table.shape[1] != args.d_model:
        return False
    return torch.allclose(table[: args.num_patches].float(), sincos(args.num_patches, args.d_model), rtol=0, atol=_PE)


def _settings(args: ModelArgs, stored: Any) -> tuple[str, ...]:
    if not isinstance(stored, Mapping):
        return ()
    own = args.to_dict()
    differ = [k for k in own if k not in _NOT_THE_NETWORK and k in stored and stored[k] != own[k]]
    return tuple(f"{k}: {stored[k]!r} in the file, {own[k]!r} in the network" for k in differ)


def _short(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
