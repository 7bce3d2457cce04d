"""Named tensors with JSON beside them, as `.safetensors`, `.npz` or `.pt` (`.pth`): the same content, the same bytes.

All three hold the tensors under the same names, and one JSON text, `sparseflow`, with a SHA-256 of each tensor. Nothing
of a file is ever executed: `.pt` is read with `weights_only=True`, `.npz` without pickles.
"""

import hashlib
import io
import json
import os
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sparseflow.errors import ConfigError, DataError
from sparseflow.ir.files import write_atomic

__all__ = ["FORMATS", "Stored", "read_stored", "write_stored"]

_TEXT = "sparseflow"
_ARRAY = "__sparseflow__"
_NESTS = ("model", "state_dict", "model_state_dict")
_AGAIN = "copy or download the file again"
_LOCAL = b"PK\x03\x04"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What one file holds.

    Args:
        tensors: by name.
        metadata: JSON values, as settings and the record of a training.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)


def write_stored(path: str | os.PathLike[str], stored: Stored) -> None:
    """Write a file, whole or not at all, in the format that its ending names.

    Raises:
        ConfigError: another ending, a type that the format lacks (bfloat16 in `.npz`), or metadata that is not JSON.
        DataError: the file cannot be written.
    """
    target = Path(path)
    writer = _format(target)[1]
    tensors = {k: stored.tensors[k].detach().cpu().contiguous().clone() for k in sorted(stored.tensors)}
    body = {**stored.metadata, "sha256": {k: _digest(t) for k, t in tensors.items()}}
    try:
        text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as e:
        raise ConfigError(f"metadata of {target} is not JSON: {e}; keep numbers, texts, lists and mappings") from e
    data = writer(tensors, text)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, data)
    except OSError as e:
        raise DataError(f"cannot write weights {target}: {e.strerror or e}; name a file that you may write") from e


def read_stored(path: str | os.PathLike[str]) -> Stored:
    """Read a file and check its sums.

    A `.pt` may hold the state dict itself or under "model" or "state_dict"; files of others, without JSON, have empty
    metadata and no sums to check.

    Raises:
        ConfigError: another ending.
        DataError: no such file, or it is cut off, damaged, or needs a pickle; names the tensor where one is at fault.
    """
    source = Path(path)
    reader = _format(source)[0]
    if not source.is_file():
        raise DataError(f"there is no file of weights {source}")
    tensors, text = reader(source)
    if text is None:
        return Stored(tensors=tensors)
    try:
        metadata = dict(json.loads(text))
        digests = dict(metadata.pop("sha256"))
    except (ValueError, TypeError, KeyError) as e:
        raise DataError(f"{source}: the JSON beside the tensors is damaged ({e!r}); {_AGAIN}") from e
    for key in sorted(digests.keys() & tensors.keys()):
        if _digest(tensors[key]) != digests[key]:
            raise DataError(f"{source}: {key!r} does not have the SHA-256 that it was written with; {_AGAIN}")
    return Stored(tensors=tensors, metadata=metadata)


Read = tuple[dict[str, Tensor], str | None]


def _digest(tensor: Tensor) -> str:
    """Return the SHA-256 of a tensor's type, shape and bytes."""
    found = hashlib.sha256(f"{tensor.dtype} {list(tensor.shape)} ".encode())
    found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _write_safetensors(tensors: dict[str, Tensor], text: str) -> bytes:
    return bytes(save(tensors, {_TEXT: text}))


def _read_safetensors(path: Path) -> Read:
    try:
        with safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            return {key: f.get_tensor(key) for key in sorted(f.keys())}, metadata.get(_TEXT)
    except (SafetensorError, OSError, ValueError) as e:
        where = _cut_safetensors(path.read_bytes())
        if where is not None:
            raise DataError(f"{path} is cut off inside {where!r}; {_AGAIN}") from e
        raise DataError(f"{path} is not a safetensors file or is damaged: {e}; {_AGAIN}") from e


def _cut_safetensors(data: bytes) -> str | None:
    """Return the first tensor that ends beyond the file, by its header."""
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        ends = {key: start + e["data_offsets"][1] for key, e in header.items() if key != "__metadata__"}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    return min((k for k, end in ends.items() if end > len(data)), key=ends.__getitem__, default=None)


def _write_npz(tensors: dict[str, Tensor], text: str) -> bytes:
    arrays = {}
    for key, tensor in tensors.items():
        if tensor.dtype == torch.bfloat16:
            raise ConfigError(f"{key!r} is bfloat16, which .npz lacks; convert it to float32 or write .safetensors")
        arrays[key] = tensor.numpy()
    out = io.BytesIO()
    np.savez(out, **{_ARRAY: np.array(text)}, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


def _read_npz(path: Path) -> Read:
    try:
        file = np.load(path, allow_pickle=False)
    except (zipfile.BadZipFile, OSError, ValueError, EOFError) as e:
        where = _last_member(path.read_bytes())
        if where is not None:
            raise DataError(f"{path} is cut off inside {where.removesuffix('.npy')!r}; {_AGAIN}") from e
        raise DataError(f"{path} is not an .npz file of arrays: {e}; write it with numpy.savez") from e
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds one array without a name; write it with numpy.savez")
    found: dict[str, Tensor] = {}
    text = None
    with file:
        for key in sorted(file.files):
            array = _array(path, file, key)
            if key == _ARRAY:
                text = str(array)
            else:
                found[key] = _tensor(path, key, array)
    return found, text


def _array(path: Path, file: Any, key: str) -> Any:
    try:
        return file[key]
    except ValueError as e:
        if "allow_pickle" in str(e):
            raise DataError(f"{path}: {key!r} holds Python objects, a pickle; store numbers alone") from e
        raise DataError(f"{path}: {key!r} cannot be read: {e}; {_AGAIN}") from e
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError) as e:
        raise DataError(f"{path}: {key!r} is damaged: {e}; {_AGAIN}") from e


def _tensor(path: Path, key: str, array: Any) -> Tensor:
    try:
        return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")).reshape(array.shape))
    except (TypeError, AttributeError) as e:
        kind = getattr(array, "dtype", type(array).__name__)
        raise DataError(f"{path}: {key!r} has the type {kind}, which torch lacks; store it as float32") from e


def _write_pt(tensors: dict[str, Tensor], text: str) -> bytes:
    out = io.BytesIO()
    torch.save({"model": tensors, _TEXT: text}, out)
    return out.getvalue()


def _read_pt(path: Path) -> Read:
    data = path.read_bytes()
    if not data.startswith(_LOCAL):
        raise DataError(f"{path} is a bare pickle or no file of torch; write it with torch.save(model.state_dict(), …)")
    try:
        body = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        where = _foreign(data)
        raise DataError(
            f"{path}: {where!r} is a pickle of an object, which could run code, and is refused; save the state dict "
            "alone, or as .safetensors"
        ) from e
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as e:
        record = _last_member(data)
        if record is not None:
            raise DataError(f"{path} is cut off inside {_key_of(data, record)!r}; {_AGAIN}") from e
        raise DataError(f"{path} is damaged: {str(e).splitlines()[0]}; {_AGAIN}") from e
    text = body.get(_TEXT) if isinstance(body, dict) else None
    for nest in _NESTS:
        if isinstance(body, dict) and isinstance(body.get(nest), dict):
            body = body[nest]
            break
    if not isinstance(body, dict):
        raise DataError(f"{path} holds a {type(body).__name__}, not a state dict; save model.state_dict()")
    for key, value in body.items():
        if not isinstance(value, Tensor):
            raise DataError(f"{path}: {key!r} is a {type(value).__name__}, not a tensor; save the state dict alone")
    return {str(k): body[k].detach().contiguous() for k in sorted(body, key=str)}, text


def _last_member(data: bytes) -> str | None:
    """Return the last member of a zip file whose directory, at its end, is gone; None if it is there."""
    if zipfile.is_zipfile(io.BytesIO(data)) or not data.startswith(_LOCAL):
        return None
    at = data.rfind(_LOCAL)
    return data[at + 30 : at + 30 + int.from_bytes(data[at + 26 : at + 28], "little")].decode(errors="replace")


def _pickled(data: bytes) -> list[tuple[str, Any]]:
    """Return names and arguments of the instructions of a `.pt` file's pickle, without running any."""
    start = data.find(b"data.pkl") + len(b"data.pkl")
    found = []
    try:
        for offset in range(start, min(start + 256, len(data))):
            if data[offset : offset + 2] == b"\x80\x02":
                for op, arg, _ in pickletools.genops(data[offset:]):
                    found.append((op.name, arg))
                break
    except ValueError:
        pass
    return found


def _is_key(arg: Any) -> bool:
    return isinstance(arg, str) and not arg.isdigit() and arg not in ("storage", "cpu", _TEXT, *_NESTS)


def _key_of(data: bytes, record: str) -> str:
    """Return the name of the tensor whose numbers lie in a record, as `archive/data/12`."""
    number, key = record.rsplit("/", 1)[-1], record
    for name, arg in _pickled(data):
        if name == "BINUNICODE" and arg == number:
            return key
        if name == "BINUNICODE" and _is_key(arg):
            key = arg
    return record


def _foreign(data: bytes) -> str:
    """Return the name under which a pickle holds something that is no tensor."""
    key = "the file"
    for name, arg in _pickled(data):
        if name in ("GLOBAL", "STACK_GLOBAL", "INST") and not str(arg).startswith(("torch", "collections")):
            return key
        if name == "BINUNICODE" and _is_key(arg):
            key = arg
    return key


FORMATS: Mapping[str, tuple[Callable[[Path], Read], Callable[[dict[str, Tensor], str], bytes]]] = {
    ".safetensors": (_read_safetensors, _write_safetensors),
    ".npz": (_read_npz, _write_npz),
    ".pt": (_read_pt, _write_pt),
}


def _format(path: Path) -> tuple[Callable[[Path], Read], Callable[[dict[str, Tensor], str], bytes]]:
    suffix = ".pt" if path.suffix == ".pth" else path.suffix
    if suffix not in FORMATS:
        raise ConfigError(f"weights {str(path)!r} end in {suffix!r}; expected one of {', '.join(FORMATS)}, .pth")
    return FORMATS[suffix]
