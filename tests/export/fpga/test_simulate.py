"""Simulations as child processes: limits, broken sources, missing tools."""

import numpy as np
import pytest

from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.export.fpga import Limits, Pauses, run_scan
from sparseflow.export.fpga.simulate import Design, build, sources, verilator
from sparseflow.export.fpga.vectors import operands, scan_tables
from tests.export.fpga.marks import needs_verilator

SMALL = {"STATES": 2, "CHANNELS": 16, "SETS": 2}


def test_a_missing_verilator_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match="apt-get install verilator"):
        verilator()


def test_a_change_that_finds_nothing_is_refused():
    with pytest.raises(ConfigError, match="not exactly once"):
        sources([("sf_rne.sv", "no such text", "x")])
    assert "floor" in sources([("sf_rne.sv", "p >>> s", "floor")])["sf_rne.sv"]


def test_shares_and_limits_are_checked():
    with pytest.raises(ConfigError, match="0 to 99"):
        Pauses(outputs=100)
    with pytest.raises(ConfigError, match="below 1"):
        Limits(seconds=0)


@needs_verilator
def test_faults_of_syntax_come_with_the_message():
    change = ("sf_rne.sv", "whole = p >>> s;", "whole = p >>> nowhere;")
    with pytest.raises(MeasurementError, match="nowhere"):
        build(Design(top="sf_scan", parameters=SMALL, changes=[change]))


@needs_verilator
def test_a_design_that_never_answers_and_one_that_breaks_the_handshake():
    g = np.random.default_rng(0)
    given, arrays = scan_tables(g, 2), operands(g, 2, 3, 8, 2)
    with pytest.raises(MeasurementError, match="stuck"):
        run_scan(given, *arrays, limits=Limits(cycles=20))
    change = ("sf_scan.sv", "assign en = !m_valid || m_ready;", "assign en = 1'b1;")
    with pytest.raises(MeasurementError, match="changed before it was taken"):
        run_scan(given, *arrays, pauses=Pauses(outputs=50), changes=[change])
    with pytest.raises(MeasurementError, match="ended with"):
        run_scan(given, *arrays, limits=Limits(memory_bytes=2**20))
