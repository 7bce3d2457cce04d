"""A pack: a network's integers, its QSpec and its golden vectors as `manifest.json` and two files of bytes.

The README of this folder has the format. Writing is deterministic; reading checks everything before it returns.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, DataError
from sparseflow.export.fpga.layout import tile, untile
from sparseflow.export.plan import make_folder
from sparseflow.ir.files import write_atomic
from sparseflow.ir.qspec import ARITHMETIC, QSpec

__all__ = [
    "ALIGNMENT",
    "GOLDEN",
    "MANIFEST",
    "MIRROR",
    "WEIGHTS",
    "Pack",
    "entries",
    "offsets",
    "read_pack",
    "write_pack",
]

Array = NDArray[np.integer]

MANIFEST, WEIGHTS, GOLDEN, MIRROR = "manifest.json", "weights.bin", "golden.bin", "cmamba_fpga.npz"
ALIGNMENT = 64
# A table and what it gave may have one name in the network.
_PREFIX = "golden."
_KIND, _SCHEMA = "sparseflow-fpga-pack", 1
_TYPES = ("int8", "uint8", "int16", "uint16", "int32", "int64")
_LAYOUTS = ("rows", "tiles_8x8")
_FIELDS = ("name", "file", "dtype", "shape", "layout", "scale", "zero", "offset", "bytes", "sha256")
_HEAD = ("kind", "schema", "arithmetic", "qspec", "names", "arrays", "files")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pack:
    """A network in integers.

    Args:
        spec: of every tensor.
        arrays: the integers by name, as `sparseflow.nn.models.cmamba.lowering.lower` returns them.
        golden: the codes of every tensor for some windows, by name, in order: "input" first, the forecast last.
        files: hashes of the other files of the folder, by name.
    """

    spec: QSpec
    arrays: Mapping[str, Array]
    golden: Mapping[str, Array]
    files: Mapping[str, str]


def write_pack(
    folder: str | Path,
    spec: QSpec,
    arrays: Mapping[str, Array],
    golden: Mapping[str, Array],
    others: Mapping[str, str] | None = None,
) -> list[Path]:
    """Write a pack; the same content gives the same bytes.

    Args:
        folder: made if it is not there; files of the same names are replaced, the manifest last.
        spec: of every tensor.
        arrays: the integers by name.
        golden: codes by the name of their tensor.
        others: texts of further files by name, as sources; their hashes go into the manifest.

    Returns:
        The files written.

    Raises:
        ConfigError: an array is not of whole numbers of at most 64 bits.
        DataError: a file cannot be written.
    """
    place = Path(folder)
    listed, blobs = entries(spec, arrays, golden)
    vectors = {_PREFIX + name: np.asarray(codes) for name, codes in golden.items()}
    mirror = io.BytesIO()
    members: dict[str, Any] = {name: np.asarray(values) for name, values in {**arrays, **vectors}.items()}
    np.savez(mirror, **members)
    contents = dict(blobs)
    rest = {MIRROR: mirror.getvalue(), **{name: text.encode() for name, text in (others or {}).items()}}
    manifest = {
        "kind": _KIND, "schema": _SCHEMA, "arithmetic": ARITHMETIC, "qspec": json.loads(spec.to_json()),
        "names": [entry["name"] for entry in listed], "arrays": listed,
        "files": {name: _hash(data) for name, data in sorted(rest.items())},
    }  # fmt: skip
    contents |= rest
    contents[MANIFEST] = (json.dumps(manifest, indent=1, allow_nan=False) + "\n").encode()
    for name in contents:
        make_folder((place / name).parent)
    return [write_atomic(place / name, data) for name, data in contents.items()]


def entries(
    spec: QSpec, arrays: Mapping[str, Array], golden: Mapping[str, Array]
) -> tuple[list[dict[str, Any]], dict[str, bytes]]:
    """Return the arrays of a manifest, and the contents of the files in which they lie.

    Raises:
        ConfigError: an array is not of whole numbers of at most 64 bits.
    """
    blobs, listed = {WEIGHTS: bytearray(), GOLDEN: bytearray()}, []
    vectors = {_PREFIX + name: codes for name, codes in golden.items()}
    for file, group in ((WEIGHTS, arrays), (GOLDEN, vectors)):
        for name, values in group.items():
            listed.append(_stored(name, file, np.asarray(values), spec, blobs[file]))
    return listed, {file: bytes(blob) for file, blob in blobs.items()}


def offsets(arrays: Mapping[str, Array]) -> dict[str, int]:
    """Return where each array begins in `weights.bin`, in bytes."""
    found, end = {}, 0
    for name, values in arrays.items():
        found[name] = -(-end // ALIGNMENT) * ALIGNMENT
        end = found[name] + len(_data(name, np.asarray(values)))
    return found


def read_pack(folder: str | Path, *, files: bool = True) -> Pack:
    """Read a pack, strictly.

    Args:
        folder: of the pack.
        files: also hold the other files to their hashes.

    Raises:
        DataError: a file or an array is missing, extra, cut, of another type, shape or layout, or has other bytes than
            were written; names it.
    """
    place = Path(folder)
    head = _manifest(place)
    blobs = {name: _bytes(place / name) for name in (WEIGHTS, GOLDEN)}
    found: dict[str, dict[str, Array]] = {WEIGHTS: {}, GOLDEN: {}}
    ends = dict.fromkeys(found, 0)
    for entry in _entries(head):
        name, file = entry["name"], entry["file"]
        start = -(-ends[file] // ALIGNMENT) * ALIGNMENT
        if entry["offset"] != start:
            raise DataError(f"array {name!r} lies at byte {entry['offset']} of {file}; expected {start}")
        if any(blobs[file][ends[file] : start]):
            raise DataError(f"{file} has bytes other than 0 in front of array {name!r}; export the network again")
        ends[file] = start + entry["bytes"]
        if ends[file] > len(blobs[file]):
            raise DataError(f"{file} ends before array {name!r} does, at byte {len(blobs[file])} of {ends[file]}")
        found[file][name] = _loaded(entry, blobs[file][start : ends[file]])
    for file, end in ends.items():
        if len(blobs[file]) != end:
            raise DataError(
                f"{file} has {len(blobs[file]) - end} bytes behind its last array; export the network again"
            )
    if files:
        for name, expected in head["files"].items():
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise DataError(f"the manifest names a file {name!r} outside the pack; export the network again")
            if _hash(_bytes(place / name)) != expected:
                raise DataError(f"{place / name} is not the file that was written; export the network again")
    try:
        spec = QSpec.from_json(json.dumps(head["qspec"]))
    except ConfigError as e:
        raise DataError(f"{place / MANIFEST}: {e}") from e
    golden = {name.removeprefix(_PREFIX): codes for name, codes in found[GOLDEN].items()}
    return Pack(spec=spec, arrays=found[WEIGHTS], golden=golden, files=head["files"])


def _stored(name: str, file: str, values: Array, spec: QSpec, blob: bytearray) -> dict[str, Any]:
    if values.dtype.name not in _TYPES:
        raise ConfigError(f"array {name!r} is of type {values.dtype}; expected one of {', '.join(_TYPES)}")
    data = _data(name, values)
    blob += bytes(-len(blob) % ALIGNMENT)
    tensor = spec.tensors.get(name.removeprefix(_PREFIX))
    entry = {
        "name": name, "file": file, "dtype": values.dtype.name, "shape": list(values.shape),
        "layout": "tiles_8x8" if _tiled(name, values) else "rows",
        "scale": None if tensor is None else tensor.to_dict()["scale"],
        "zero": None if tensor is None else tensor.offset,
        "offset": len(blob), "bytes": len(data), "sha256": _hash(data),
    }  # fmt: skip
    blob += data
    return entry


def _tiled(name: str, values: Array) -> bool:
    return name.endswith(".weight") and values.ndim == 2 and values.dtype == np.int8


def _data(name: str, values: Array) -> bytes:
    stored = tile(values.astype(np.int64)) if _tiled(name, values) else values
    return stored.astype(values.dtype.newbyteorder("<")).tobytes()


def _loaded(entry: Mapping[str, Any], data: bytes) -> Array:
    name, shape = entry["name"], tuple(entry["shape"])
    if _hash(data) != entry["sha256"]:
        raise DataError(f"array {name!r} has other bytes than were written; export the network again")
    flat = np.frombuffer(data, np.dtype(entry["dtype"]).newbyteorder("<"))
    if entry["layout"] == "rows":
        return flat.reshape(shape).astype(entry["dtype"])
    whole = untile(flat.astype(np.int8), shape)
    if tile(whole).tobytes() != data:
        raise DataError(f"array {name!r} has numbers beyond its edges; expected zeros")
    return whole.astype(np.int8)


def _manifest(place: Path) -> dict[str, Any]:
    path = place / MANIFEST

    def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        again = [key for key in keys if keys.count(key) > 1]
        if again:
            raise DataError(f"{path}: {again[0]!r} stands twice in one object; export the network again")
        return dict(pairs)

    def refuse(word: str) -> float:
        raise DataError(f"{path} holds {word}; expected finite numbers")

    try:
        head = json.loads(_bytes(path).decode(), object_pairs_hook=unique, parse_constant=refuse)
    except (ValueError, RecursionError) as e:
        if isinstance(e, DataError):
            raise
        raise DataError(f"{path} is not JSON: {e}; export the network again") from e
    if not isinstance(head, dict) or head.get("kind") != _KIND:
        raise DataError(f"{path} is no manifest of a pack; its kind is not {_KIND!r}")
    if head.get("schema") != _SCHEMA or head.get("arithmetic") != ARITHMETIC:
        raise DataError(
            f"{path} has schema {head.get('schema')!r} and arithmetic {head.get('arithmetic')!r}; this version reads "
            f"{_SCHEMA} and {ARITHMETIC!r}"
        )
    for key in _HEAD:
        if key not in head:
            raise DataError(f"{path} lacks {key!r}; export the network again")
    for key in head:
        if key not in _HEAD:
            raise DataError(f"{path} has a field {key!r} that nothing reads; export the network again")
    if not (isinstance(head["names"], list) and isinstance(head["arrays"], list) and isinstance(head["files"], dict)):
        raise DataError(f"{path}: names and arrays are lists, files a mapping; export the network again")
    return head


def _entries(head: Mapping[str, Any]) -> list[dict[str, Any]]:
    seen: list[str] = []
    for entry in head["arrays"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise DataError(
                f"an array behind {seen[-1] if seen else 'the start'!r} has no name; export the network again"
            )
        name = entry["name"]
        if name in seen:
            raise DataError(f"array {name!r} stands twice in the manifest; export the network again")
        if name not in head["names"]:
            raise DataError(f"array {name!r} is not among the names of the pack; take it out")
        missing, extra = set(_FIELDS) - set(entry), set(entry) - set(_FIELDS)
        if missing or extra:
            word = f"lacks {sorted(missing)[0]!r}" if missing else f"has an unknown field {sorted(extra)[0]!r}"
            raise DataError(f"array {name!r} {word}; export the network again")
        _check_entry(name, entry)
        seen.append(name)
    for name in head["names"]:
        if name not in seen:
            raise DataError(f"array {name!r} is missing in the manifest; export the network again")
    return list(head["arrays"])


def _check_entry(name: str, entry: Mapping[str, Any]) -> None:
    shape, layout = entry["shape"], entry["layout"]
    if entry["file"] not in (WEIGHTS, GOLDEN):
        raise DataError(f"array {name!r} is said to be in {entry['file']!r}; expected {WEIGHTS} or {GOLDEN}")
    if entry["dtype"] not in _TYPES:
        raise DataError(f"array {name!r} is of type {entry['dtype']!r}; expected one of {', '.join(_TYPES)}")
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise DataError(f"array {name!r} has shape {shape!r}; expected whole numbers")
    if layout not in _LAYOUTS or (layout == "tiles_8x8" and (len(shape) != 2 or entry["dtype"] != "int8")):
        raise DataError(f"array {name!r} of shape {shape} has layout {layout!r}; expected one of {', '.join(_LAYOUTS)}")
    if (entry["file"] == GOLDEN) != name.startswith(_PREFIX):
        raise DataError(f"array {name!r} is said to be in {entry['file']}, where it does not belong")
    sizes = [-(-n // 8) * 8 for n in shape] if layout == "tiles_8x8" else shape
    expected = math.prod(sizes) * np.dtype(entry["dtype"]).itemsize
    if type(entry["bytes"]) is not int or entry["bytes"] != expected:
        raise DataError(f"array {name!r} has {entry['bytes']!r} bytes; its shape and type need {expected}")
    if type(entry["offset"]) is not int:
        raise DataError(f"array {name!r} lies at {entry['offset']!r}; expected a whole number")


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise DataError(f"cannot read {path}: {e.strerror or e}; export the network again") from e


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
