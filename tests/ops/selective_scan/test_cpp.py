"""The compiled scan."""

from sparseflow.ops.selective_scan import cpp
from tests.ops.selective_scan.scan_cases import operands


def test_other_devices_are_refused():
    assert "compiled for CPUs only" in cpp.refuses(operands(1, 1, 1, device="meta"))
