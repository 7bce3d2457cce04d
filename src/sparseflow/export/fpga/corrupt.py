"""Ways to spoil a pack, each of which a reader has to refuse by the name of what is spoilt."""

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparseflow.export.fpga.pack import GOLDEN, MANIFEST, MIRROR, WEIGHTS

__all__ = ["CORRUPTIONS", "spoil"]

Head = dict[str, Any]


def spoil(folder: str | Path, name: str) -> str:
    """Spoil the pack of a folder in one of the ways of `CORRUPTIONS`.

    Returns:
        What the message of a reader has to name: an array, a file or a field.
    """
    return CORRUPTIONS[name](Path(folder))


def _edit(change: Callable[[Head, Head], str | None]) -> Callable[[Path], str]:
    """Change the manifest and one of its arrays, the first that is tiled."""

    def run(folder: Path) -> str:
        head = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        entry = next(a for a in head["arrays"] if a["layout"] == "tiles_8x8")
        name = str(entry["name"])
        named = change(head, entry) or name
        (folder / MANIFEST).write_text(json.dumps(head), encoding="utf-8")
        return named

    return run


def _field(field: str, value: object) -> Callable[[Path], str]:
    return _edit(lambda _, entry: entry.update({field: value}))


def _head(field: str, value: object) -> Callable[[Path], str]:
    def change(head: Head, _: Head) -> str:
        head[field] = value
        return MANIFEST

    return _edit(change)


def _drop(head: Head, entry: Head) -> None:
    head["arrays"].remove(entry)


def _double(head: Head, entry: Head) -> None:
    head["arrays"].append(entry)


def _extra(head: Head, entry: Head) -> str:
    head["arrays"].append({**entry, "name": "encoder.extra"})
    return "encoder.extra"


def _transpose(_: Head, entry: Head) -> None:
    entry["shape"] = [8 * n for n in entry["shape"]]


def _swap(head: Head, entry: Head) -> str:
    at = head["arrays"].index(entry)
    head["arrays"][at], head["arrays"][at + 1] = head["arrays"][at + 1], entry
    return str(head["arrays"][at]["name"])


def _rename_tensor(head: Head, _: Head) -> str:
    name = next(iter(head["qspec"]["tensors"]))
    head["qspec"]["tensors"][name]["bits"] = 99
    return str(name)


def _flip(file: str) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        head = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        entry = next(a for a in head["arrays"] if a["file"] == file and a["bytes"])
        data = bytearray((folder / file).read_bytes())
        data[entry["offset"]] ^= 1
        (folder / file).write_bytes(data)
        return str(entry["name"])

    return run


def _cut(folder: Path) -> str:
    head = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-1])
    return str([a for a in head["arrays"] if a["file"] == WEIGHTS][-1]["name"])


def _append(folder: Path) -> str:
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"\0")
    return WEIGHTS


def _gap(folder: Path) -> str:
    """Write into the bytes between two arrays, which belong to none."""
    head = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    data = bytearray((folder / WEIGHTS).read_bytes())
    entries = [a for a in head["arrays"] if a["file"] == WEIGHTS]
    for before, after in itertools.pairwise(entries):
        if before["offset"] + before["bytes"] < after["offset"]:
            data[after["offset"] - 1] = 1
            (folder / WEIGHTS).write_bytes(data)
            return str(after["name"])
    raise AssertionError("no array of the pack has padding behind it")


def _pickle(folder: Path) -> str:
    """Put a pickle in place of the mirror."""
    (folder / MIRROR).write_bytes(b"\x80\x04K\x01.")
    return MIRROR


def _beyond_edge(folder: Path) -> str:
    """Give a tile a weight beyond the matrix, with the right hash."""
    head = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    data = bytearray((folder / WEIGHTS).read_bytes())
    for entry in head["arrays"]:
        if entry["layout"] == "tiles_8x8" and entry["shape"][0] % 8:
            end = entry["offset"] + entry["bytes"]
            data[end - 1] = 1
            entry["sha256"] = hashlib.sha256(data[entry["offset"] : end]).hexdigest()
            (folder / WEIGHTS).write_bytes(data)
            (folder / MANIFEST).write_text(json.dumps(head), encoding="utf-8")
            return str(entry["name"])
    raise AssertionError("no matrix of the pack has an edge inside a tile")


def _text(text: str) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        (folder / MANIFEST).write_text(text, encoding="utf-8")
        return MANIFEST

    return run


def _remove(file: str) -> Callable[[Path], str]:
    def run(folder: Path) -> str:
        (folder / file).unlink()
        return file

    return run


def _outside(head: Head, _: Head) -> str:
    head["files"]["../secret"] = "0" * 64
    return "../secret"


CORRUPTIONS: dict[str, Callable[[Path], str]] = {
    "array missing": _edit(_drop),
    "array twice": _edit(_double),
    "array extra": _edit(_extra),
    "array in another order": _edit(_swap),
    "array without a field": _edit(lambda _, entry: entry.pop("dtype") and None),
    "array with an unknown field": _field("comment", "x"),
    "array of another shape": _edit(_transpose),
    "array of a negative shape": _field("shape", [-8, 8]),
    "array of another type": _field("dtype", "int16"),
    "array of objects": _field("dtype", "object"),
    "array of another layout": _field("layout", "columns"),
    "array at another place": _field("offset", 1),
    "array in another file": _field("file", "/etc/passwd"),
    "array with another hash": _field("sha256", "0" * 64),
    "weights with a bit flipped": _flip(WEIGHTS),
    "golden vectors with a bit flipped": _flip(GOLDEN),
    "weights cut": _cut,
    "weights with more behind": _append,
    "weights with bytes between arrays": _gap,
    "weights beyond the edge of a matrix": _beyond_edge,
    "weights gone": _remove(WEIGHTS),
    "a pickle for the mirror": _pickle,
    "a tensor of 99 bits": _edit(_rename_tensor),
    "a file outside the pack": _edit(_outside),
    "manifest of another schema": _head("schema", 2),
    "manifest of another arithmetic": _head("arithmetic", "float"),
    "manifest that is no JSON": _text('{"kind": '),
    "manifest with NaN": _text('{"kind": NaN}'),
}
"""Each spoils the pack of a folder and returns what the message has to name."""
