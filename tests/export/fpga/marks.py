"""What a machine must have for some tests."""

import shutil

import pytest

needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="Verilator is not installed; apt-get install verilator"
)
