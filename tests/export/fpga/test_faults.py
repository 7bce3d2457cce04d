"""Faults put in on purpose: each names a text that stands exactly once in the Verilog."""

import pytest

from sparseflow.export.fpga.faults import FAULTS
from sparseflow.export.fpga.simulate import sources


@pytest.mark.parametrize("fault", FAULTS)
def test_it_changes_one_place_of_one_file(fault):
    file, old, new = FAULTS[fault]
    changed, whole = sources([FAULTS[fault]]), sources()
    assert [name for name in whole if changed[name] != whole[name]] == [file]
    assert changed[file] == whole[file].replace(old, new)
    assert whole[file].count(old) == 1
