"""Faults of an earlier design as changes of the Verilog, to see that the vectors find them."""

from collections.abc import Sequence

import numpy as np

from sparseflow.export.fpga.child import Limits
from sparseflow.export.fpga.drive import Array, run_matvec, run_scan
from sparseflow.export.fpga.vectors import calls, expected, expected_scan, matrices, operands, scan_tables

__all__ = ["FAULTS", "mismatches"]

FAULTS = {
    "codes read without their sign": ("sf_matvec.sv", "$signed(x_q[8*c+:8])", "$signed({1'b0, x_q[8*c+:8]})"),
    "negatives rounded and then decremented": ("sf_rne.sv", "y     = whole +", "y     = whole - (p < 0) +"),
    "fraction of a decay extended by its sign": (
        "sf_scan.sv",
        "$signed({1'b0, table_1[16*n+16+:15]}) * h",
        "$signed(table_1[16*n+16+:15]) * h",
    ),
    "states written one address too far": ("sf_scan.sv", "states[at[4]] <=", "states[at[4]+1'b1] <="),
    "states that live on in the next sequence": ("sf_scan.sv", "first_1 ? 16'sd0 : $signed(", "$signed("),
    "results truncated": ("sf_rne.sv", "up    = (s != 0)", "up    = 1'b0 && (s != 0)"),
    "halves rounded up": ("sf_rne.sv", "(rest == half && whole[0])", "rest == half"),
    "results that wrap around": ("sf_clamp.sv", "if (p > most)", "if (1'b0)"),
}
"""By name: file, text and what stands there instead."""


def mismatches(change: tuple[str, str, str] | None, limits: Limits | None = None) -> int:
    """Return how many outputs of small designs differ from the arithmetic, with a change or without.

    Raises:
        UnsupportedError: Verilator or a C++ compiler is missing.
    """
    g = np.random.default_rng(8)
    changes: Sequence[tuple[str, str, str]] = [] if change is None else [change]
    file, wrong = change[0] if change else "", 0
    layers = matrices(g)
    vectors = calls(g, layers, 200)
    if file != "sf_scan.sv":
        small = Array(rows=2, columns=2, lanes=1)
        run = run_matvec(layers, vectors, array=small, changes=changes, limits=limits)
        wrong += sum(int((a != b).sum()) for a, b in zip(run.outputs, expected(layers, vectors), strict=True))
    if file in ("", "sf_scan.sv"):
        x, p, b, c, d, z = operands(g, 4, 9, 16, 2)
        given = scan_tables(g, 2)
        scan = run_scan(given, x, p, b, c, d, z, changes=changes, limits=limits)
        wrong += int((np.stack(scan.outputs) != expected_scan(x, p, b, c, d, z, given)).sum())
    return wrong
