"""Faults of the earlier design, put back into the Verilog: each is found by vectors that the design passes."""

import numpy as np
import pytest

from sparseflow.export.fpga import Array, run_matvec, run_scan
from tests.export.fpga.vectors import calls, expected, expected_scan, matrices, needs_verilator, operands, tables

FAULTS = {
    "2 codes read without their sign": ("sf_matvec.sv", "$signed(x_q[8*c+:8])", "$signed({1'b0, x_q[8*c+:8]})"),
    "4 negatives are rounded and then decremented": ("sf_rne.sv", "y     = whole +", "y     = whole - (p < 0) +"),
    "5 the fraction of a decay is extended by its sign": (
        "sf_scan.sv",
        "$signed({1'b0, table_1[16*n+16+:15]}) * h",
        "$signed(table_1[16*n+16+:15]) * h",
    ),
    "6 states are written one address too far": ("sf_scan.sv", "states[at[4]] <=", "states[at[4]+1'b1] <="),
    "7 states live on from one sequence to the next": ("sf_scan.sv", "first_1 ? 16'sd0 : $signed(", "$signed("),
    "8 results are truncated": ("sf_rne.sv", "up    = (s != 0)", "up    = 1'b0 && (s != 0)"),
    "8 halves are rounded up": ("sf_rne.sv", "(rest == half && whole[0])", "rest == half"),
    "8 results wrap around": ("sf_clamp.sv", "if (p > most)", "if (1'b0)"),
}


def found(changes):
    """Return how many outputs differ from the arithmetic, of a matrix and of a scan."""
    g = np.random.default_rng(8)
    layers = matrices(g)
    vectors = calls(g, layers, 200)
    file = changes[0][0] if changes else ""
    wrong = 0
    if file != "sf_scan.sv":
        run = run_matvec(layers, vectors, array=Array(rows=2, columns=2, lanes=1), changes=changes)
        wrong += sum(int((a != b).sum()) for a, b in zip(run.outputs, expected(layers, vectors), strict=True))
    if file in ("", "sf_scan.sv"):
        given, arrays = tables(g, 2), operands(g, 4, 9, 16, 2)
        scan = run_scan(given, *arrays, changes=changes)
        wrong += int((np.stack(scan.outputs) != expected_scan(*arrays, given)).sum())
    return wrong


@needs_verilator
def test_without_a_fault_nothing_differs():
    assert found(()) == 0


@needs_verilator
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    assert found([FAULTS[fault]]) > 0
