"""Cells that yosys finds."""

import shutil

import pytest

from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.export.fpga.synthesis import Cells, cells, count

REPORT = """
=== top ===
   Number of cells:               1234
     CARRY4                         29
     DSP48E2                        80
     FDRE                         2320
     LUT2                          110
     RAM64M8                         3
     RAMB18E2                        3
     RAMB36E2                       12
"""


def test_a_report_is_counted():
    assert count(REPORT) == Cells(lut=134, ff=2320, dsp=80, bram36=13.5)
    assert count(REPORT) + Cells(lut=1, ff=2, dsp=3, bram36=4) == Cells(lut=135, ff=2322, dsp=83, bram36=17.5)
    with pytest.raises(MeasurementError, match="no cell"):
        count("nothing")


def test_a_missing_yosys_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match="apt-get install yosys"):
        cells("sf_rne")


@pytest.mark.skipif(shutil.which("yosys") is None, reason="yosys is not installed; apt-get install yosys")
def test_a_small_module():
    found = cells("sf_rne", {"WIDTH": 8, "SHIFT": 3})
    assert found.dsp == found.ff == found.bram36 == 0
    assert 8 < found.lut < 100
    with pytest.raises(ConfigError, match="no parameter 'DEPTH'"):
        cells("sf_rne", {"DEPTH": 8})
