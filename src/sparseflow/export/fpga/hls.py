"""The HLS C++ compiled by the C++ compiler of this machine, and run in a child process."""

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.child import Limits, compiler, run, sections
from sparseflow.export.fpga.drive import Matrix
from sparseflow.export.fpga.layout import tile
from sparseflow.export.fpga.simulate import BENCH
from sparseflow.ir.env import cache_folder
from sparseflow.ops.fixed_point import Ints, ScanTables

__all__ = ["HLS", "build_network", "hls_matvec", "hls_scan", "predict"]

HLS = Path(__file__).parent / "hls"

_FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wno-unknown-pragmas")


def hls_matvec(matrix: Matrix, vectors: Ints, limits: Limits | None = None) -> Ints:
    """Multiply vectors by a matrix with `sf_matvec` of the HLS sources.

    Args:
        matrix: the layer.
        vectors: int8 `[n, N]`.
        limits: of the child process.

    Returns:
        `[n, M]`.
    """
    outputs, inputs = matrix.weight.shape
    found = _kernel(
        "matvec",
        {
            "set": _bytes([inputs, outputs, 2 ** (matrix.bits - 1) - 1], "<i4"),
            "tiles": tile(matrix.weight).view(np.uint8), "bias": _bytes(matrix.bias, "<i4"),
            "factor": _bytes(matrix.factor.multiplier, "<i4"), "shift": _bytes(matrix.factor.shift, "u1"),
            "x": vectors.astype(np.int8).view(np.uint8),
        },
        limits,
    )  # fmt: skip
    return found.reshape(len(vectors), outputs)


def hls_scan(
    tables: ScanTables, x: Ints, p: Ints, b: Ints, c: Ints, d: Ints, z: Ints, limits: Limits | None = None
) -> Ints:
    """Run selective scans with `sf_scan_step` of the HLS sources; operands as those of `run_scan`.

    Returns:
        Of each step, in order, the codes, and y before the gate: `[B · K, 2, E]`.

    Raises:
        ConfigError: other than 2, 4, 8 or 16 states.
    """
    many, steps, channels = x.shape
    states = b.shape[-1]
    if states not in (2, 4, 8, 16):
        raise ConfigError(f"{states} states; the program for vectors has 2, 4, 8 and 16")
    settings = [many, steps, channels, states, tables.t, tables.j, tables.state, tables.skip, tables.out.multiplier,
                tables.shift, tables.out.shift, 2 ** (tables.bits - 1) - 1]  # fmt: skip
    codes = {"x": x, "p": p, "b": b, "c": c, "d": d, "z": z, "silu": tables.silu}
    found = _kernel(
        "scan",
        {
            "set": _bytes([int(np.reshape(v, ())) for v in settings], "<i4"),
            "delta": _bytes(tables.delta, "<u2"), "decay": _bytes(tables.decay.reshape(-1), "<i2"),
            **{name: _bytes(values.reshape(-1), "i1") for name, values in codes.items()},
        },
        limits,
    )  # fmt: skip
    return found.reshape(many * steps, 2, channels)


def build_network(folder: str | Path, limits: Limits | None = None) -> Path:
    """Compile the HLS sources of a pack; return the program, kept in the cache for equal sources."""
    place = Path(folder)
    return _program([place / "hls" / "main.cpp"], [place, place / "hls"], limits or Limits())


def predict(folder: str | Path, readings: Ints, limits: Limits | None = None) -> Ints:
    """Forecast with the HLS sources of a pack.

    Args:
        folder: of the pack.
        readings: with 16 fraction bits, `[windows, V, L]`.
        limits: of the child process.

    Returns:
        With 16 fraction bits, `[windows, V, F]`.
    """
    limits = limits or Limits()
    program = build_network(folder, limits)
    with tempfile.TemporaryDirectory() as place:
        given, found = Path(place) / "readings", Path(place) / "forecasts"
        given.write_bytes(readings.astype("<i4").tobytes())
        run([str(program), str(Path(folder) / "weights.bin"), str(given), str(found)], limits)
        numbers = np.frombuffer(found.read_bytes(), "<i4").astype(np.int64)
    return numbers.reshape(*readings.shape[:2], -1)


def _kernel(kind: str, given: dict[str, NDArray[np.uint8]], limits: Limits | None) -> Ints:
    limits = limits or Limits()
    program = _program([HLS / "kernels.cpp"], [HLS, BENCH], limits)
    with tempfile.TemporaryDirectory() as place:
        stimuli, results = Path(place) / "stimuli", Path(place) / "results"
        stimuli.write_bytes(sections(given))
        run([str(program), kind, str(stimuli), str(results)], limits)
        return np.frombuffer(results.read_bytes(), "<i4").astype(np.int64)


def _program(made_of: list[Path], include: list[Path], limits: Limits) -> Path:
    texts = [path.read_bytes() for folder in include for path in sorted(folder.glob("*.h*"))]
    stamp = hashlib.sha256(
        b"\0".join([*texts, *(p.read_bytes() for p in made_of), repr((_FLAGS, compiler())).encode()])
    )
    folder = cache_folder() / "hls"
    program = folder / stamp.hexdigest()[:24]
    if not program.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            part = Path(place) / "program"
            flags = [*_FLAGS, *(f"-I{path}" for path in include), *map(str, made_of)]
            run([compiler(), *flags, "-o", str(part)], limits)
            os.replace(part, program)
    return program


def _bytes(values: object, kind: str) -> NDArray[np.uint8]:
    flat = np.ascontiguousarray(np.asarray(values).astype(kind)).reshape(-1, 1)
    return flat.view(np.uint8)
