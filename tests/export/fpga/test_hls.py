"""The HLS C++ against the arithmetic: kernels over ten thousand vectors, a whole network over its golden vectors."""

import shutil

import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.header import params_header
from sparseflow.export.fpga.hls import HLS, hls_matvec, hls_scan, predict
from sparseflow.export.fpga.pack import write_pack
from sparseflow.export.fpga.vectors import calls, expected, expected_scan, matrices, operands, scan_tables
from tests.export.fpga.networks import small

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler; install g++")


def test_ten_thousand_vectors_of_a_matrix():
    g = np.random.default_rng(1)
    layers = matrices(g)
    vectors = calls(g, layers, 10_000)
    want, wrong = expected(layers, vectors), 0
    for i, layer in enumerate(layers):
        at = [k for k, (j, _) in enumerate(vectors) if j == i]
        found = hls_matvec(layer, np.stack([vectors[k][1] for k in at]))
        wrong += int((found != np.stack([want[k] for k in at])).sum())
    assert wrong == 0


@pytest.mark.parametrize(("states", "t", "j"), [(16, 6, 3), (4, 0, 8), (2, 8, 0)])
def test_ten_thousand_channels_of_a_scan(states, t, j):
    g = np.random.default_rng(5)
    given, arrays = scan_tables(g, states, t=t, j=j), operands(g, 7, 12, 128, states)
    wrong = int((hls_scan(given, *arrays) != expected_scan(*arrays, given)).sum())
    assert wrong == 0


def test_a_whole_network(tmp_path):
    spec, arrays, golden = small()
    texts = {f"hls/{p.name}": p.read_text() for p in HLS.iterdir() if p.name != "kernels.cpp"}
    write_pack(tmp_path, spec, arrays, golden, {**texts, "cmamba_params.h": params_header(spec, arrays)})
    found = predict(tmp_path, golden["input"])
    assert np.array_equal(found, golden["restore"])
    assert np.abs(found).max() > 1000


def test_states_that_the_program_lacks():
    g = np.random.default_rng(0)
    with pytest.raises(ConfigError, match="3 states"):
        hls_scan(scan_tables(g, 3), *operands(g, 1, 1, 1, 3))
