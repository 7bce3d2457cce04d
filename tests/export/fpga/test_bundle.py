"""A whole pack: sources, parameters and page belong to what is inside, and writing it twice gives the same bytes."""

import shutil
import subprocess

import numpy as np
import pytest

from sparseflow.export.fpga import run_matvec
from sparseflow.export.fpga.bundle import write_bundle
from sparseflow.export.fpga.hls import predict
from sparseflow.export.fpga.network import layers
from sparseflow.export.fpga.pack import read_pack
from tests.export.fpga.marks import needs_verilator
from tests.export.fpga.networks import small


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pack")
    write_bundle(folder, *small())
    return folder


def test_every_file_is_the_same_the_second_time(written, tmp_path):
    again = write_bundle(tmp_path, *small())
    for path in again:
        assert path.read_bytes() == (written / path.relative_to(tmp_path)).read_bytes()
    names = {str(path.relative_to(tmp_path)) for path in again}
    assert {"manifest.json", "weights.bin", "golden.bin", "cmamba_fpga.npz", "cmamba_params.h", "qspec.json"} <= names
    assert {"specs.md", "hls/cmamba.hpp", "rtl/sf_scan.sv", "rtl/cmamba_params.svh", "bench/sf_scan.cpp"} <= names


def test_the_page_lists_what_the_manifest_lists(written):
    pack = read_pack(written)
    page = (written / "specs.md").read_text()
    rows = [line for line in page.splitlines() if ".bin |" in line]
    assert len(rows) == len(pack.arrays) + len(pack.golden)
    # Vectors of the network take 64 bits in memory, and no more than they need in the pack.
    assert pack.golden["standardize"].dtype == np.int8
    assert pack.golden["encoder.layers.0.mixer.scan.h"].dtype == np.int16
    assert pack.golden["encoder.layers.0.mixer.scan.delta"].dtype in (np.int16, np.int32)
    assert "| head.linear | 10 | 128 |" in page
    assert pack.spec.digest in page


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler; install g++")
def test_the_hls_sources_forecast_from_the_folder_alone(written):
    pack = read_pack(written)
    assert np.array_equal(predict(written, pack.golden["input"]), pack.golden["restore"])


@needs_verilator
def test_the_parameters_are_verilog(written, tmp_path):
    text = 'module m (output int y);\n`include "cmamba_params.svh"\n'
    text += "assign y = COMMANDS[LAYERS-1][0] + ROWS;\nendmodule\n"
    (tmp_path / "m.sv").write_text(text)
    command = ["verilator", "--lint-only", "-Wno-UNUSEDPARAM", f"-I{written}/rtl", str(tmp_path / "m.sv")]
    subprocess.run(command, check=True, capture_output=True)


@needs_verilator
def test_every_layer_of_the_network_in_verilog(written):
    run = list(layers(read_pack(written)))
    calls = [(i, x) for i, layer in enumerate(run) for x in layer.inputs]
    want = [y for layer in run for y in layer.outputs]
    found = run_matvec([layer.matrix for layer in run], calls)
    wrong = sum(int((a != b).sum()) for a, b in zip(found.outputs, want, strict=True))
    assert wrong == 0
