"""The two kernels of the integer engine by themselves, to hold each instruction set to any vectors."""

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import UnsupportedError
from sparseflow.ops import _library
from sparseflow.ops._library import native
from sparseflow.ops.fixed_point import Factor, Ints, ScanTables, bounded

__all__ = ["ABSENT", "linear_codes", "scan_codes"]

ABSENT: str | None = _library.ABSENT
if native is not None and not hasattr(native, "IntegerLinear"):
    ABSENT = "the compiled kernels are older than these; reinstall sparseflow with a C++17 compiler"


def linear_codes(x: Ints, weight: Ints, bias: Ints, by: Factor, bits: int, *, isa: str = "auto") -> Ints:
    """Return sat(rne((w · x + b) · M / 2^s)), by the engine's linear layer.

    Args:
        x: int8 codes `[rows, N]`.
        weight: int8 `[M, N]`.
        bias: int32 `[M]`.
        by: factor of each output, `[M]`.
        bits: of the results, 2 to 27.
        isa: "auto", or one of `int_engine.isas()`.

    Returns:
        `[rows, M]`.

    Raises:
        UnsupportedError: there are no compiled kernels.
    """
    _able()
    outputs, inputs = weight.shape
    layer = native.IntegerLinear(
        _bytes(weight, "i1"), _bytes(bias, "<i4"), _bytes(by.multiplier, "<i4"), _bytes(by.shift, "u1"),
        2 ** (bits - 1) - 1, inputs, outputs,
    )  # fmt: skip
    codes = _shifted(x)
    found = np.empty((len(codes), outputs), np.int32)
    layer.run(codes.ctypes.data, found.ctypes.data, len(codes), isa)
    return found.astype(np.int64)


def scan_codes(x: Ints, p: Ints, b: Ints, c: Ints, d: Ints, z: Ints, tables: ScanTables, *, isa: str = "auto") -> Ints:
    """Return the codes of selective scans, by the engine's kernel; operands as those of `ops.fixed_point.scan`.

    Args:
        x: int8 `[B, K, E]`.
        p: index of the tables, int8 `[B, K, E]`.
        b: int8 `[B, K, N]`.
        c: int8 `[B, K, N]`.
        d: int8 `[B, K, E]`.
        z: int8 `[B, K, E]`.
        tables: of the scans.
        isa: "auto", or one of `int_engine.isas()`.

    Returns:
        `[B, K, E]`.

    Raises:
        UnsupportedError: there are no compiled kernels.
    """
    _able()
    many, steps, channels = x.shape
    numbers = (tables.state, tables.skip, tables.shift, tables.out.multiplier, tables.out.shift)
    state, skip, y_shift, multiplier, shift = (int(np.reshape(v, ())) for v in numbers)
    kernel = native.IntegerScan(
        _bytes(tables.delta, "<u2"), _bytes(tables.decay, "<i2"), _bytes(tables.silu, "i1"), tables.t, tables.j, state,
        skip, y_shift, multiplier, shift, 2 ** (tables.bits - 1) - 1, b.shape[-1], channels,
    )  # fmt: skip
    given = [_shifted(v) for v in (x, p, z, np.concatenate([b, c, d], -1))]
    found = np.empty((many, steps, channels), np.uint8)
    kernel.run(*(v.ctypes.data for v in given), found.ctypes.data, many, steps, isa)
    return found.astype(np.int64) - 128


def _able() -> None:
    if ABSENT is not None:
        raise UnsupportedError(f"the engine's kernels cannot run: {ABSENT}")


def _bytes(values: Ints, kind: str) -> bytes:
    return np.ascontiguousarray(values.astype(kind)).tobytes()


def _shifted(codes: Ints) -> NDArray[np.uint8]:
    """Return codes as the engine keeps them, with 128 added."""
    return np.ascontiguousarray((bounded("codes of the engine", codes, 127) + 128).astype(np.uint8))
