import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sparseflow.compress.quantize import ForecastBits
from sparseflow.export.fpga.pack import write_pack
from sparseflow.nn.models.cmamba import IntRef
from tests.nn.models.cmamba.small import SMALL, arrays, readings, spec

READER = Path(__file__).parents[2] / "examples" / "read_pack.py"


def run(folder):
    # -I and the folder of NumPy alone: the reader must not need sparseflow.
    return subprocess.run([sys.executable, str(READER), str(folder)], capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("bits", [ForecastBits(), ForecastBits(weights=4), ForecastBits(weights=6, activations=6)])
def test_the_reader_reproduces_every_golden_tensor(tmp_path, bits):
    golden = IntRef(SMALL, arrays(bits)).taps(readings(3))
    write_pack(tmp_path, spec(bits), arrays(bits), golden)
    result = run(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert ", 0 tensors differ" in result.stdout
    assert f"{len(golden) - 1} tensors" in result.stdout


def test_the_reader_finds_what_differs(tmp_path):
    golden = IntRef(SMALL, arrays()).taps(readings(3))
    wrong = {**golden, "encoder.layers.1.mixer.scan.y": golden["encoder.layers.1.mixer.scan.y"] + 1}
    write_pack(tmp_path, spec(), arrays(), wrong)
    result = run(tmp_path)
    assert result.returncode == 1
    assert "encoder.layers.1.mixer.scan.y: differs" in result.stdout
    assert "1 tensors differ" in result.stdout


def test_the_reader_is_short_and_plain():
    text = READER.read_text()
    assert len(text.splitlines()) <= 200
    assert "import sparseflow" not in text
    assert "from sparseflow" not in text
    assert np.__name__ in text
