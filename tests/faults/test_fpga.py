"""Faults of the earlier design, put back into the Verilog: each is found by vectors that the design passes."""

import pytest

from sparseflow.export.fpga.faults import FAULTS, mismatches
from tests.export.fpga.marks import needs_verilator


@needs_verilator
def test_without_a_fault_nothing_differs():
    assert mismatches(None) == 0


@needs_verilator
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault):
    assert mismatches(FAULTS[fault]) > 0
