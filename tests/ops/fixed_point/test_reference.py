"""Each function against Python's own unbounded integers and fractions."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.ops import fixed_point as fp

RNG = np.random.default_rng(0)


def wide(bits: int, n: int = 2000) -> fp.Ints:
    """Numbers of all magnitudes below 2^bits, both signs, and the ends."""
    size = RNG.integers(0, bits, n)
    found = (RNG.integers(0, 2**62, n) >> (62 - size)) * RNG.choice([-1, 1], n)
    ends = [0, 1, -1, 2**bits - 1, 1 - 2**bits]
    return np.concatenate([found, np.array(ends)]).astype(np.int64)


@pytest.mark.parametrize("shift", [0, 1, 2, 15, 31, 47, 61, 62])
def test_rne_is_the_rounding_of_fractions(shift: int) -> None:
    v = np.concatenate([wide(62), np.arange(-40, 41), np.arange(-9, 10) * (2**shift // 2)])
    v = v[np.abs(v.astype(object)) <= 2**62]
    want = [round(Fraction(int(i), 2**shift)) for i in v]
    assert fp.rne(v, shift).tolist() == want


def test_rne_takes_a_shift_each() -> None:
    assert fp.rne(fp.integers([3, 3, 3]), fp.integers([0, 1, 2])).tolist() == [3, 2, 1]


@pytest.mark.parametrize(("v", "shift"), [(2**62 + 1, 1), (-(2**62) - 1, 1), (1, 63), (1, -1)])
def test_rne_refuses_what_could_overflow(v: int, shift: int) -> None:
    with pytest.raises(DataError):
        fp.rne(fp.integers([v]), shift)


def test_divide_is_the_division_of_fractions() -> None:
    a = np.concatenate([wide(61), np.arange(-50, 51)])
    for d in (1, 2, 3, 10, 96, 2**31 - 1):
        assert fp.divide(a, d).tolist() == [round(Fraction(int(i), d)) for i in a]


def test_isqrt_is_exact() -> None:
    root = RNG.integers(0, 2**31, 2000)
    v = np.abs(np.concatenate([wide(62), root * root, root * root - 1, root * root + 1, np.arange(100)]))
    v = v[v < 2**62]
    assert fp.isqrt(v).tolist() == [math.isqrt(int(i)) for i in v]


@pytest.mark.parametrize("real", [1.0, 0.5, 1.5, 1e-9, 123456.789, -0.3, 2.0**-31, 1 - 2.0**-40, 7e-15, 0.0])
def test_a_factor_is_near_and_has_31_bits(real: float) -> None:
    found = fp.factor([real])
    m, s = int(found.multiplier[0]), int(found.shift[0])
    assert 1 <= s <= 62
    assert m == 0 or s == 62 or 2**30 <= abs(m) < 2**31
    assert abs(Fraction(m, 2**s) - Fraction(real)) <= Fraction(1, 2 ** (s + 1))
    assert float(found.real()[0]) == float(Fraction(m, 2**s))


@pytest.mark.parametrize("real", [math.inf, math.nan, 2.0**30])
def test_a_factor_beyond_the_shifts_is_refused(real: float) -> None:
    with pytest.raises(ConfigError):
        fp.factor([real])


def test_requant_is_the_rounding_of_fractions_and_saturates() -> None:
    v = wide(31)
    for real in (1.0, 3e-6, 0.37, 2.0**-24, -1e-3):
        by = fp.factor([real])
        exact = Fraction(int(by.multiplier[0]), 2 ** int(by.shift[0]))
        want = [min(max(round(int(i) * exact), -127), 127) for i in v]
        assert fp.requant(v, by, 8).tolist() == want
    with pytest.raises(DataError):
        fp.requant(fp.integers([2**31]), fp.factor([1.0]), 8)


def test_sat_leaves_out_the_lowest_code() -> None:
    assert fp.sat(fp.integers([-129, -128, -127, 127, 128]), 8).tolist() == [-127, -127, -127, 127, 127]


def test_dual_rounds_the_sum_once() -> None:
    u, v = RNG.integers(-(2**26), 2**26, 500), RNG.integers(-(2**14), 2**14, 500)
    first, second, shift = 1234567, 2**31 - 1, 37
    want = [round(Fraction(int(a) * first + int(b) * second, 2**shift)) for a, b in zip(u, v, strict=True)]
    got = fp.dual(u, v, np.int64(first), np.int64(second), np.int64(shift), 32)  # type: ignore[arg-type]
    assert got.tolist() == want


@pytest.mark.parametrize("values", [[math.nan], [math.inf], [1e19]])
def test_integers_refuse_what_is_none(values: list[float]) -> None:
    with pytest.raises(DataError):
        fp.integers(values)


def test_linear_is_the_sum_of_products() -> None:
    x, w, b = RNG.integers(-127, 128, (3, 5, 33)), RNG.integers(-127, 128, (7, 33)), RNG.integers(-9999, 9999, 7)
    assert (fp.linear(x, w, b) == np.einsum("abj,oj->abo", x, w) + b).all()
    assert fp.linear(x[..., :0], w[:, :0]).tolist() == np.zeros((3, 5, 7)).tolist()


def test_linear_refuses_more_than_32_bits() -> None:
    with pytest.raises(DataError):
        fp.linear(fp.integers([[2**20, 2**20]]), fp.integers([[2**10, 2**10]]))
    with pytest.raises(DataError):
        fp.linear(fp.integers([[1]]), fp.integers([[1]]), fp.integers([2**31 - 1]))
    with pytest.raises(DataError):
        fp.linear(fp.integers([[2**30]]), fp.integers([[2**24]]))


def test_lookup_centres_the_codes() -> None:
    table = np.arange(-128, 128)
    codes = np.arange(-127, 128)
    assert (fp.lookup(table, codes) == codes).all()
    with pytest.raises(DataError):
        fp.lookup(table, fp.integers([-128]))


def test_rsqrt_is_near_everywhere() -> None:
    v = np.unique(
        np.concatenate([np.arange(1, 4000), np.abs(wide(47)) + 1, 2 ** np.arange(47), 2 ** np.arange(1, 47) - 1])
    )
    v = v[v < 2**47]
    y, e = fp.rsqrt(v)
    assert int(y.max()) <= 2**30
    assert float(np.abs(y * 2.0 ** (-30.0 - e) * np.sqrt(v) - 1).max()) < 4e-5
    for bad in (0, -1, 2**47):
        with pytest.raises(DataError):
            fp.rsqrt(fp.integers([bad]))


def test_rms_norm_is_near_the_real_one() -> None:
    x = RNG.integers(-32767, 32768, (50, 128))
    x[0], x[1] = 0, 1
    scale, out, eps = 1e-3, 0.02, 1e-5
    w = RNG.normal(1, 0.3, 128)
    got = fp.rms_norm(x, max(1, round(128 * eps / scale**2)), fp.factor(np.sqrt(128) * w / out * 2.0**-24), 8)
    real = x * scale / np.sqrt(np.mean((x * scale) ** 2, -1, keepdims=True) + eps) * w
    want = np.clip(real / out, -127, 127)
    assert float(np.abs(got - want).max()) <= 0.51
    assert (got[0] == 0).all()
    with pytest.raises(DataError):
        fp.rms_norm(fp.integers([[32768]]), 1, fp.factor([1.0]), 8)


def test_standardize_and_restore_are_near_the_real_ones() -> None:
    real = RNG.normal(3, 2, (40, 96))
    real[0] = 5.0
    real[1] = 255.0 * (-1.0) ** np.arange(96)
    x = fp.integers(real * 2**16)
    scale = 0.05
    codes, mean, std = fp.standardize(x, round(2**21 / scale), 8)
    sigma = np.sqrt(real.var(-1, keepdims=True) + 1e-5)
    want = np.clip((real - real.mean(-1, keepdims=True)) / sigma / scale, -127, 127)
    assert float(np.abs(codes - want).max()) <= 0.51
    np.testing.assert_allclose(mean / 2**16, real.mean(-1, keepdims=True), atol=2**-16)
    np.testing.assert_allclose(std / 2**21, sigma, rtol=2e-4)
    t = RNG.normal(0, 1, (40, 5))
    back = fp.restore(fp.integers(t * 2**20), mean, std) / 2**16
    np.testing.assert_allclose(back, t * sigma + real.mean(-1, keepdims=True), rtol=1e-3, atol=1e-3)


def test_standardize_holds_its_bounds_at_the_ends() -> None:
    top = 2**24 - 1
    x = np.tile(np.array([[top, -top]]), (1, 2048))
    codes, mean, std = fp.standardize(x, 2**31 - 1, 8)
    assert mean.tolist() == [[0]]
    assert int(std[0, 0]) < 2**31
    assert set(np.unique(codes)) <= {-127, 127}
    with pytest.raises(DataError):
        fp.standardize(x + 1, 1, 8)
    with pytest.raises(DataError):
        fp.standardize(np.zeros((1, 4097), np.int64), 1, 8)


def test_restore_saturates() -> None:
    assert fp.restore(fp.integers([2**26 - 1]), fp.integers([2**24]), fp.integers([2**31])).tolist() == [2**31 - 1]
    with pytest.raises(DataError):
        fp.restore(fp.integers([2**26]), fp.integers([0]), fp.integers([1]))


def test_gate_saturates_after_the_shift() -> None:
    y = fp.integers([-32767, -32767, 32767, 1, 3])
    got = fp.gate(y, fp.integers([32767, 1, 32767, 16384, 16384]), fp.integers([-9, -9, 9, 0, 0]))
    assert got.tolist() == [-32767, -10, 32767, 0, 2]


def tables(seed: int = 0, states: int = 4, **given: Any) -> fp.ScanTables:
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {
        "delta": np.sort(rng.integers(0, 65536, 256)),
        "decay": rng.integers(0, 32768, (states, 256)),
        "silu": rng.integers(-127, 128, 256),
        "t": 8,
        "j": 8,
        "state": np.int64(3 * 2**20),
        "skip": np.int64(2**30),
        "shift": np.int64(40),
        "out": fp.factor(2e-3),
        "bits": 8,
    }
    return fp.ScanTables(**(made | given))


def plain_scan(x: Any, p: Any, b: Any, c: Any, d: Any, z: Any, s: fp.ScanTables) -> Any:
    """Walk one number at a time, in Python's integers and fractions."""

    def halves(v: int, shift: int, limit: int) -> int:
        return min(max(round(Fraction(v, 2**shift)), -limit), limit)

    batch, steps, channels = x.shape
    out = np.zeros(x.shape, np.int64)
    for i in range(batch):
        for e in range(channels):
            h = [0] * b.shape[-1]
            for k in range(steps):
                at = int(p[i, k, e]) + 128
                w = halves(int(s.delta[at]) * int(x[i, k, e]), s.t, 32767)
                for n in range(len(h)):
                    h[n] = halves(int(s.decay[n, at]) * h[n] + w * int(b[i, k, n]) * 2**s.j, 15, 32767)
                read = sum(h[n] * int(c[i, k, n]) for n in range(len(h)))
                skip = int(d[i, k, e]) * int(x[i, k, e])
                y = halves(read * int(s.state) + skip * int(s.skip), int(s.shift), 32767)
                g = int(s.silu[int(z[i, k, e]) + 128])
                out[i, k, e] = halves(y * g * int(s.out.multiplier), int(s.out.shift), 2 ** (s.bits - 1) - 1)
    return out


@pytest.mark.parametrize(("t", "j"), [(0, 0), (8, 8), (3, 7)])
def test_scan_is_the_plain_walk(t: int, j: int) -> None:
    rng = np.random.default_rng(t)
    x, p, d, z = (rng.integers(-127, 128, (2, 12, 3)) for _ in range(4))
    b, c = (rng.integers(-127, 128, (2, 12, 4)) for _ in range(2))
    chosen = tables(t=t, j=j)
    got, between = fp.scan(x, p, b, c, d, z, chosen)
    assert (got == plain_scan(x, p, b, c, d, z, chosen)).all()
    assert set(between) == {"delta", "w", "h", "y", "z"}


def test_scan_holds_its_bounds_at_the_ends() -> None:
    """The largest step, decay and operands: the state saturates, 32 bits suffice."""
    full = np.full((1, 12, 1), 127)
    chosen = tables(delta=np.full(256, 65535), decay=np.full((4, 256), 32767))
    for sign in (1, -1):
        b = np.full((1, 12, 4), 127 * sign)
        got, between = fp.scan(full, full, b, b, full, full, chosen)
        assert (np.abs(between["h"][:, -1]) == 32767).all()
        assert (got == plain_scan(full, full, b, b, full, full, chosen)).all()


@pytest.mark.parametrize(
    "given", [{"t": 9}, {"j": -1}, {"delta": np.full(256, 65536)}, {"decay": np.full((4, 256), 32768)}]
)
def test_scan_refuses_tables_beyond_their_bounds(given: dict[str, Any]) -> None:
    one, n = np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 4), np.int64)
    with pytest.raises(DataError):
        fp.scan(one, one, n, n, one, one, tables(**given))


def test_scan_refuses_codes_beyond_eight_bits() -> None:
    one, n = np.zeros((1, 1, 1), np.int64), np.zeros((1, 1, 4), np.int64)
    for bad in range(6):
        given = [one, one, n, n, one, one]
        given[bad] = given[bad] + 128
        with pytest.raises(DataError):
            fp.scan(given[0], given[1], given[2], given[3], given[4], given[5], tables())
