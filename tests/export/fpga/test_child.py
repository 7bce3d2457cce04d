"""Child processes: their limits, and the compiler that is asked for."""

import sys

import numpy as np
import pytest

from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.export.fpga.child import Limits, compiler, run, sections


def test_output_comes_back():
    assert run([sys.executable, "-c", "print(7)"], Limits()) == "7\n"


def test_a_failure_has_the_last_lines():
    with pytest.raises(MeasurementError, match="ended with 3: no good"):
        run([sys.executable, "-c", "import sys; print('no good', file=sys.stderr); sys.exit(3)"], Limits())


def test_time_and_memory_are_bounded():
    with pytest.raises(MeasurementError, match="more than 1 s"):
        run([sys.executable, "-c", "import time; time.sleep(30)"], Limits(seconds=1))
    with pytest.raises(MeasurementError, match="MemoryError"):
        run([sys.executable, "-c", "bytearray(2**33)"], Limits(memory_bytes=2**32))
    with pytest.raises(ConfigError, match="below 1"):
        Limits(cycles=0)


def test_the_compiler_is_the_users(monkeypatch):
    monkeypatch.setenv("CXX", "my-compiler")
    assert compiler() == "my-compiler"
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match="install g"):
        compiler()


def test_sections():
    data = sections({"a": np.array([[1, 2], [3, 4]], np.uint8)})
    assert data == b"a" + bytes(7) + (2).to_bytes(4, "little") + (2).to_bytes(4, "little") + b"\x01\x02\x03\x04"
