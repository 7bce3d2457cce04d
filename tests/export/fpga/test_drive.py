"""The Verilog against the arithmetic, bit for bit, and the cycles it takes."""

import numpy as np
import pytest

from sparseflow.errors import ConfigError
from sparseflow.export.fpga import Array, Pauses, run_matvec, run_scan, run_slim_step
from sparseflow.export.fpga.vectors import (
    calls,
    expected,
    expected_average,
    expected_scan,
    matrices,
    operands,
    random_matrix,
    scan_tables,
    sigmoid_table,
)
from tests.export.fpga.marks import needs_verilator

PAUSES = [Pauses(), Pauses(inputs=40, outputs=30, seed=5), Pauses(inputs=0, outputs=90, seed=6)]


def mismatches(found, want):
    return sum(int((a != b).sum()) for a, b in zip(found, want, strict=True))


@needs_verilator
def test_ten_thousand_vectors_of_a_matrix():
    g = np.random.default_rng(1)
    layers = matrices(g)
    vectors = calls(g, layers, 10_000)
    want = expected(layers, vectors)
    # The vectors reach what they are meant to reach.
    sums = [layers[i].weight @ x + layers[i].bias for i, x in vectors if i == 6]
    assert np.mean(np.stack(sums) % 2) > 0.3
    assert max(int(np.abs(y).max()) for y in want) == 2**26 - 1
    for pauses in PAUSES:
        run = run_matvec(layers, vectors, pauses=pauses)
        wrong = mismatches(run.outputs, want)
        assert wrong == 0


@needs_verilator
@pytest.mark.parametrize("array", [Array(rows=4, columns=16, lanes=4), Array(rows=2, columns=2, lanes=1)], ids=str)
def test_arrays_of_other_sizes(array):
    g = np.random.default_rng(2)
    layers = matrices(g)
    vectors = calls(g, layers, 300)
    run = run_matvec(layers, vectors, array=array, pauses=Pauses(inputs=20, outputs=50))
    wrong = mismatches(run.outputs, expected(layers, vectors))
    assert wrong == 0


@needs_verilator
def test_products_a_cycle():
    g = np.random.default_rng(3)
    sizes = [(256, 128), (192, 128), (128, 32), (128, 128), (96, 1536), (128, 16)]
    layers = [random_matrix(g, m, n) for m, n in sizes]
    for i, (m, n) in enumerate(sizes):
        count = max(4, 100_000 // (m * n))
        run = run_matvec(layers, [(i, g.integers(-127, 128, n)) for _ in range(count)])
        steady = m * n * (count - 1) / (run.ends[-1] - run.ends[0])
        assert steady == 64
        assert m * n * count / run.cycles > 60
    together = run_matvec(layers, [(i, g.integers(-127, 128, n)) for i, (_, n) in enumerate(sizes)])
    assert sum(m * n for m, n in sizes) / together.cycles > 60


@needs_verilator
@pytest.mark.parametrize("pauses", PAUSES[:2], ids=["straight", "paused"])
def test_a_step_of_256_channels(pauses):
    g = np.random.default_rng(4)
    layer, steps = random_matrix(g, 256, 256), 24
    inputs = g.integers(-127, 128, (steps, 256))
    inputs[3], inputs[4] = 127, -127
    first = [k % 7 == 0 for k in range(steps)]
    run = run_slim_step(layer, sigmoid_table(), inputs, first, shift=8, pauses=pauses)
    want = expected_average(layer, sigmoid_table(), inputs, first, 8)
    wrong = mismatches(run.outputs, want)
    assert wrong == 0
    if pauses == Pauses():
        assert run.ends[0] <= 1_040
        assert set(np.diff(run.ends)) == {1_024}


@needs_verilator
def test_ten_thousand_channels_of_a_scan():
    g = np.random.default_rng(5)
    given, arrays = scan_tables(g), operands(g, 7, 12, 128, 16)
    want = expected_scan(*arrays, given)
    assert np.abs(want[:, 0]).max() == 127
    assert np.abs(want[:, 1]).max() == 32767
    assert np.unique(want[:, 1]).size > 1000
    for pauses in PAUSES:
        run = run_scan(given, *arrays, pauses=pauses)
        wrong = mismatches(run.outputs, want)
        assert wrong == 0
        if pauses == Pauses():
            assert run.cycles <= 7 * 12 * 128 + 20


@needs_verilator
@pytest.mark.parametrize("channels", [1, 2, 4, 5, 16])
@pytest.mark.parametrize(("t", "j"), [(0, 8), (8, 0), (4, 4)])
def test_few_channels_and_other_shifts(channels, t, j):
    g = np.random.default_rng(6)
    given, arrays = scan_tables(g, 4, t=t, j=j, bits=8 - j // 2), operands(g, 5, 9, channels, 4)
    run = run_scan(given, *arrays, pauses=Pauses(inputs=10, outputs=10))
    wrong = mismatches(run.outputs, expected_scan(*arrays, given))
    assert wrong == 0


def test_refusals():
    g = np.random.default_rng(7)
    with pytest.raises(ConfigError, match="powers of two"):
        Array(rows=3)
    with pytest.raises(ConfigError, match="lanes ≤ rows"):
        Array(rows=2, lanes=4)
    with pytest.raises(ConfigError, match="expected a square"):
        run_slim_step(random_matrix(g, 8, 8), sigmoid_table(), np.zeros((1, 8), np.int64), [True])
