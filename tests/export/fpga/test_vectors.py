"""The vectors reach what they are meant to reach."""

import numpy as np

from sparseflow.export.fpga.vectors import (
    calls,
    expected,
    expected_average,
    expected_scan,
    matrices,
    operands,
    random_matrix,
    random_scans,
    scan_tables,
    sigmoid_table,
)


def test_sums_are_halves_and_outputs_saturate():
    g = np.random.default_rng(1)
    layers = matrices(g)
    vectors = calls(g, layers, 2000)
    want = expected(layers, vectors)
    halves = np.stack([layers[6].weight @ x + layers[6].bias for i, x in vectors if i == 6])
    assert np.mean(halves % 2) > 0.3
    assert {i for i, _ in vectors} == set(range(len(layers)))
    for i, layer in enumerate(layers[:9]):
        limit = 2 ** (layer.bits - 1) - 1
        seen = np.concatenate([y for (j, _), y in zip(vectors, want, strict=True) if i == j])
        assert np.abs(seen).max() <= limit
    assert max(int(np.abs(y).max()) for y in want) == 2**26 - 1


def test_scans_have_largest_steps_and_saturate():
    g = np.random.default_rng(2)
    given, arrays = scan_tables(g), operands(g, 3, 4, 32, 16)
    assert given.delta.max() == 65535
    assert arrays[1][1].min() == 127
    found = expected_scan(*arrays, given)
    assert np.abs(found[:, 0]).max() == 127
    assert np.abs(found[:, 1]).max() == 32767
    assert np.unique(found[:, 1]).size > 150


def test_an_average_stays_between_its_inputs():
    g = np.random.default_rng(3)
    inputs = g.integers(-127, 128, (20, 64))
    found = expected_average(random_matrix(g, 64, 64), sigmoid_table(), inputs, [k == 0 for k in range(20)], 7)
    assert (np.abs(found) <= 127 * 128).all()
    assert sigmoid_table()[128] == 2**14


def test_random_scans_have_as_many_steps_as_asked_for():
    found = random_scans(np.random.default_rng(4), 120, steps=6)
    assert [len(one.outputs) for one in found] == [48, 24, 24, 24]
    for one in found:
        assert (expected_scan(*one.operands, one.tables) == one.outputs).all()
        assert one.operands[0].shape[1] == 6
