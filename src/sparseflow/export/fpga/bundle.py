"""A pack with everything beside it: header, HLS C++, Verilog with its parameters, benches, and a page about it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.export.fpga.drive import Array, commands_of
from sparseflow.export.fpga.header import params_header, sizes
from sparseflow.export.fpga.hls import HLS
from sparseflow.export.fpga.network import Layer, layers
from sparseflow.export.fpga.pack import Pack, entries, write_pack
from sparseflow.export.fpga.simulate import BENCH, RTL
from sparseflow.ir.qspec import ARITHMETIC, QSpec

__all__ = ["specs", "verilog_params", "write_bundle"]

Arrays = Mapping[str, NDArray[np.integer]]
# It belongs to tests of the kernels, not to a network.
_LEFT_OUT = ("kernels.cpp",)


def write_bundle(folder: str | Path, spec: QSpec, arrays: Arrays, golden: Arrays) -> list[Path]:
    """Write a pack and all sources of a forecaster; the same network gives the same bytes.

    Args:
        folder: made if it is not there; files of the same names are replaced.
        spec: of every tensor.
        arrays: the integers by name, as `lower` returns them.
        golden: the codes of every tensor, as `IntRef.taps` returns them.

    Returns:
        The files written.

    Raises:
        ConfigError: an array is missing or of another type; names it.
        DataError: a golden vector is missing, or a file cannot be written.
    """
    golden = {name: _narrow(np.asarray(codes)) for name, codes in golden.items()}
    run = list(layers(Pack(spec=spec, arrays=arrays, golden=golden, files={})))
    listed, _ = entries(spec, arrays, golden)
    texts = {"qspec.json": spec.to_json(), "cmamba_params.h": params_header(spec, arrays)}
    for name, place in (("hls", HLS), ("rtl", RTL), ("bench", BENCH)):
        for path in sorted(place.iterdir()):
            if path.is_file() and path.name not in _LEFT_OUT:
                texts[f"{name}/{path.name}"] = path.read_text(encoding="utf-8")
    texts["rtl/cmamba_params.svh"] = verilog_params(spec, arrays, run)
    texts["specs.md"] = specs(spec, listed, sizes(spec, arrays), run)
    return write_pack(folder, spec, arrays, golden, texts)


def verilog_params(spec: QSpec, arrays: Arrays, run: Sequence[Layer], array: Array | None = None) -> str:
    """Return the parameters of the Verilog modules for a network, and the command of each layer."""
    array, found = array or Array(), sizes(spec, arrays)
    commands = commands_of([layer.matrix for layer in run], array)
    tiles = sum((a + 1) * (d + 1) for _, _, a, d, _ in commands)
    words = sum((d + 1) * array.rows // array.lanes for _, _, _, d, _ in commands)
    numbers = {
        "ROWS": array.rows, "COLS": array.columns, "LANES": array.lanes, "W_DEPTH": tiles, "P_DEPTH": words,
        "X_DEPTH": max(a + 1 for _, _, a, _, _ in commands), "STATES": found["N"], "CHANNELS": found["E"],
        "SETS": max(found["BLOCKS"], 2), "LAYERS": len(run),
    }  # fmt: skip
    lines = [f"// Made from the QSpec {spec.digest}; do not edit."]
    lines += [f"localparam int {name} = {value};" for name, value in numbers.items()]
    lines.append(
        "// Of each layer: first tile, first word of factors, tiles across and row blocks less 1, bits less 1."
    )
    lines.append("localparam int COMMANDS [LAYERS][5] = '{")
    for layer, command in zip(run, commands, strict=True):
        comma = "" if layer is run[-1] else ","
        lines.append(f"  '{{{', '.join(map(str, command))}}}{comma}  // {layer.name}")
    return "\n".join([*lines, "};"]) + "\n"


def specs(spec: QSpec, listed: Sequence[Mapping[str, Any]], found: Mapping[str, int], run: Sequence[Layer]) -> str:
    """Return the page of a pack: its sizes, layers and arrays, from the entries of its manifest."""
    letters = ", ".join(f"{name} = {value}" for name, value in found.items())
    array = Array()
    lines = [
        "# What is in this pack", "",
        f"Arithmetic {ARITHMETIC}, QSpec {spec.digest}. {letters}.", "",
        "## Layers", "",
        f"Tiles of {array.rows} outputs by {array.columns} inputs, one a cycle; layers in the order of running.", "",
        "| layer | outputs | inputs | first tile | tiles | bits |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    commands = commands_of([layer.matrix for layer in run], array)
    for layer, (first, _, across, down, bits) in zip(run, commands, strict=True):
        m, n = layer.matrix.weight.shape
        lines.append(f"| {layer.name} | {m} | {n} | {first} | {(across + 1) * (down + 1)} | {bits + 1} |")
    lines += ["", "## Arrays", "", "| array | file | type | shape | layout | scale | byte | bytes | sha256 |",
              "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for entry in listed:
        shape = "x".join(map(str, entry["shape"])) or "one number"
        lines.append(
            f"| {entry['name']} | {entry['file']} | {entry['dtype']} | {shape} | {entry['layout']} | "
            f"{_scale(entry['scale'])} | {entry['offset']} | {entry['bytes']} | {entry['sha256'][:12]} |"
        )
    return "\n".join(lines) + "\n"


def _narrow(codes: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return whole numbers in the smallest signed type that holds them."""
    reach = int(np.abs(codes.astype(np.int64)).max(initial=0))
    return codes.astype(next(kind for kind in (np.int8, np.int16, np.int32, np.int64) if reach <= np.iinfo(kind).max))


def _scale(scale: float | Sequence[float] | None) -> str:
    if scale is None:
        return ""
    return f"{scale:.6g}" if isinstance(scale, float | int) else f"{min(scale):.3g} to {max(scale):.3g}"
