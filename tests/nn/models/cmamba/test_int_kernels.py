"""The engine's kernels by themselves, beside the arithmetic."""

import numpy as np
import pytest

from sparseflow.errors import DataError, UnsupportedError
from sparseflow.nn.models.cmamba import int_kernels
from sparseflow.nn.models.cmamba.int_engine import isas
from sparseflow.nn.models.cmamba.int_kernels import linear_codes, scan_codes
from sparseflow.ops.fixed_point import Factor, factor, linear, requant, scan
from tests.ops.fixed_point.test_reference import tables

pytestmark = pytest.mark.skipif(not isas(), reason="no compiled kernels")


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 1, 1), (0, 4, 3), (7, 33, 65), (13, 128, 64), (2, 0, 5)])
def test_linear_of_any_size(isa, rows, inputs, outputs):
    g = np.random.default_rng(rows + inputs)
    x, weight = g.integers(-127, 128, (rows, inputs)), g.integers(-127, 128, (outputs, inputs))
    bias, by = (
        g.integers(-(2**20), 2**20, outputs),
        factor(g.choice([-1, 1], outputs) * 2.0 ** g.uniform(-20, -8, outputs)),
    )
    for bits in (8, 16, 27):
        want = requant(linear(x, weight, bias), by, bits)
        np.testing.assert_array_equal(linear_codes(x, weight, bias, by, bits, isa=isa), want)


@pytest.mark.parametrize("isa", isas())
def test_sums_at_the_ends_of_32_bits(isa):
    weight, x = np.full((1, 512), 127), np.stack([np.full(512, 127), np.full(512, -127)])
    for end in (2**31 - 1, -(2**31) + 1):
        bias = np.array([end - np.sign(end) * 127 * 127 * 512])
        by = Factor(multiplier=np.array([2**31 - 1]), shift=np.array([37]))
        want = requant(linear(x, weight, bias), by, 27)
        np.testing.assert_array_equal(linear_codes(x, weight, bias, by, 27, isa=isa), want)
        assert np.abs(want).max() > 2**24


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize(("many", "steps", "channels"), [(1, 1, 1), (2, 6, 3), (3, 4, 17), (0, 3, 2)])
def test_scans_of_any_size(isa, many, steps, channels):
    g = np.random.default_rng(channels)
    x, p, d, z = (g.integers(-127, 128, (many, steps, channels)) for _ in range(4))
    b, c = (g.integers(-127, 128, (many, steps, 4)) for _ in range(2))
    want = scan(x, p, b, c, d, z, tables())[0]
    np.testing.assert_array_equal(scan_codes(x, p, b, c, d, z, tables(), isa=isa), want)


def test_what_is_no_code_is_refused():
    one = np.ones((1, 1), np.int64)
    with pytest.raises(DataError, match="codes of the engine"):
        linear_codes(128 * one, one, one[0], factor([1.0]), 8)


def test_without_kernels_it_says_so(monkeypatch):
    monkeypatch.setattr(int_kernels, "ABSENT", "no compiler was there")
    one = np.ones((1, 1), np.int64)
    with pytest.raises(UnsupportedError, match="no compiler was there"):
        linear_codes(one, one, one[0], factor([1.0]), 8)
