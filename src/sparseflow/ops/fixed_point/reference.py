"""The truth: every step of the arithmetic of the README, in NumPy int64, with its bounds asserted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, DataError

__all__ = [
    "RSQRT",
    "Factor",
    "Ints",
    "ScanTables",
    "bounded",
    "clamp",
    "divide",
    "dual",
    "factor",
    "gate",
    "integers",
    "isqrt",
    "linear",
    "lookup",
    "requant",
    "restore",
    "rms_norm",
    "rne",
    "rsqrt",
    "sat",
    "scan",
    "standardize",
]

Ints = NDArray[np.int64]

_EPS = 42950
_EXACT = 2.0**53


def integers(values: object) -> Ints:
    """Return whole numbers as int64, rounding real ones once, halves to even.

    Raises:
        DataError: NaN, an infinity, or a number of 2^63 and more.

    >>> integers([0.5, 1.5, -2.5])
    array([ 0,  2, -2])
    """
    array = np.asarray(values)
    if array.dtype.kind == "f":
        array = np.rint(array.astype(np.float64))
        if not bool((np.abs(array) < 2.0**63).all()):
            raise DataError("a value is NaN or beyond 64 bits; mend the scales or the weights")
    found: Ints = array.astype(np.int64)
    return found


def bounded(name: str, v: Ints, limit: int) -> Ints:
    """Return `v`, once it is sure that |v| ≤ limit.

    Raises:
        DataError: a value lies beyond.
    """
    if v.size and not -limit <= int(v.min()) <= int(v.max()) <= limit:
        raise DataError(f"{name} holds {int(v.min())}…{int(v.max())}, beyond ±{limit}")
    return v


def clamp(v: Ints, limit: int) -> Ints:
    """Return `v` clamped to ±limit."""
    return np.minimum(np.maximum(v, -limit), limit)


def sat(v: Ints, bits: int) -> Ints:
    """Return `v` clamped to the symmetric range of signed codes, ±(2^(bits−1) − 1).

    >>> sat(integers([-200, 5, 128]), 8)
    array([-127,    5,  127])
    """
    return clamp(v, 2 ** (bits - 1) - 1)


def rne(v: Ints, shift: int | Ints) -> Ints:
    """Return v / 2^shift to nearest, ties to even.

    Args:
        v: |v| ≤ 2^62.
        shift: 0 to 62; broadcasts with `v`.

    Raises:
        DataError: out of these bounds.

    >>> rne(integers([-3, -2, -1, 1, 2, 3]), 1)
    array([-2, -1,  0,  0,  1,  2])
    """
    s = np.asarray(shift, np.int64)
    if s.size and not 0 <= int(s.min()) <= int(s.max()) <= 62:
        raise DataError(f"a shift of {int(s.min())}…{int(s.max())} bits; expected 0 to 62")
    bounded("the operand of a rounding shift", v, 2**62)
    if s.ndim == 0 and s > 0:
        return _round(v, s)
    some = np.maximum(s, 1)
    return np.where(s == 0, v, _round(v, some))


def _round(v: Ints, s: Ints) -> Ints:
    """Return v / 2^s for s ≥ 1: half of 2^s less 1 is added, and 1 more where the floor is odd."""
    found = v >> s
    found &= 1
    found += v
    found += (np.int64(1) << (s - 1)) - 1
    found >>= s
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Factor:
    """Real factors as integers: multiplier · 2^−shift.

    Args:
        multiplier: |M| < 2^31.
        shift: 1 to 62, of the same shape.
    """

    multiplier: Ints
    shift: Ints

    def real(self) -> NDArray[np.float64]:
        """Return the factors that the integers stand for, exactly."""
        return np.ldexp(self.multiplier.astype(np.float64), -self.shift.astype(np.int32))


def factor(real: object) -> Factor:
    """Return real factors as 31-bit multipliers and shifts; 0 stays 0.

    Raises:
        ConfigError: a factor is not finite, or 2^30 and more.

    >>> found = factor([0.75, -1.0])
    >>> found.multiplier.tolist(), found.shift.tolist()
    ([1610612736, -1073741824], [31, 30])
    """
    m = np.asarray(real, np.float64)
    if not bool((np.abs(m) < 2.0**30).all()):
        raise ConfigError("a factor between two scales is NaN or 2^30 and more; the scales do not fit each other")
    mantissa, exponent = np.frexp(m)
    whole = integers(mantissa * 2.0**31)
    full = np.abs(whole) == 2**31
    whole, exponent = np.where(full, whole >> 1, whole), exponent + full
    shift = np.where(whole == 0, 31, 31 - exponent.astype(np.int64))
    over = np.clip(shift - 62, 0, 62)
    return Factor(multiplier=rne(whole, over), shift=shift - over)


def requant(v: Ints, by: Factor, bits: int) -> Ints:
    """Return sat(rne(v · M, s)): codes of another scale.

    Args:
        v: |v| < 2^31.
        by: broadcasts with `v`.
        bits: of the codes.

    Raises:
        DataError: `v` has more than 32 bits.
    """
    bounded("the operand of a requantisation", v, 2**31 - 1)
    return sat(rne(v * by.multiplier, by.shift), bits)


def dual(u: Ints, v: Ints, first: Ints, second: Ints, shift: Ints, bits: int) -> Ints:
    """Return sat(rne(u·M₁ + v·M₂, s)): two sums of different scales, rounded once."""
    bounded("the operand of a requantisation", u, 2**31 - 1)
    bounded("the operand of a requantisation", v, 2**30)
    return sat(rne(u * first + v * second, shift), bits)


def divide(a: Ints, d: Ints | int) -> Ints:
    """Return a / d to nearest, ties to even; |a| ≤ 2^61, d > 0.

    >>> divide(integers([-5, -3, 3, 5, 7]), 2)
    array([-2, -2,  2,  2,  4])
    """
    bounded("a dividend", a, 2**61)
    q, r = np.divmod(a, d)
    twice = 2 * r
    found: Ints = q + ((twice > d) | ((twice == d) & (q % 2 == 1)))
    return found


def isqrt(v: Ints) -> Ints:
    """Return ⌊√v⌋ for 0 ≤ v < 2^62.

    >>> isqrt(integers([0, 15, 16, 2**60 - 1]))
    array([         0,          3,          4, 1073741823])
    """
    bounded("the operand of a root", v, 2**62 - 1)
    root = np.floor(np.sqrt(v.astype(np.float64))).astype(np.int64)
    root = np.where(root * root > v, root - 1, root)
    return np.where((root + 1) * (root + 1) <= v, root + 1, root)


def lookup(table: Ints, codes: Ints) -> Ints:
    """Return table[code + 128] for int8 codes."""
    found: Ints = table[bounded("codes of a table", codes, 127) + 128]
    return found


def linear(x: Ints, weight: Ints, bias: Ints | None = None) -> Ints:
    """Return Σ_j w[o, j] · x[..., j] + b[o], an int32.

    It multiplies in float64, which is exact: all sums stay below 2^53.

    Raises:
        DataError: a sum needs more than 32 bits, or could pass 2^53 on the way.
    """
    reach = float(np.abs(x).max(initial=0)) * float(np.abs(weight).sum(-1).max(initial=0))
    if not reach < _EXACT:
        raise DataError(f"sums of a linear layer may reach {reach:.3g}, beyond 2^53")
    found = (x.astype(np.float64) @ weight.T.astype(np.float64)).astype(np.int64)
    bounded("the sums of a linear layer", found, 2**31 - 1)
    return found if bias is None else bounded("the sums of a linear layer", found + bias, 2**31 - 1)


RSQRT: Ints = integers(2.0**15 / np.sqrt((np.arange(193) + 64.5) / 64))
"""First guess of 1/√m for m in [1, 4], with 15 fraction bits."""


def rsqrt(v: Ints) -> tuple[Ints, Ints]:
    """Return y and e with 1/√v ≈ y · 2^(−30−e), 1 ≤ v < 2^47; the relative error is below 4e-5.

    >>> y, e = rsqrt(integers([9]))
    >>> round(float(y[0]) * 2.0 ** (-30 - int(e[0])), 4)
    0.3333
    """
    if v.size and int(v.min()) < 1:
        raise DataError(f"1/√v of v = {int(v.min())}; expected at least 1")
    bounded("the operand of 1/√v", v, 2**47 - 1)
    # frexp of a whole number below 2^53 is exact: its exponent is the number of bits.
    e = (np.frexp(v.astype(np.float64))[1].astype(np.int64) - 1) // 2
    left = 30 - 2 * e
    m = np.where(left >= 0, v << np.maximum(left, 0), rne(v, np.maximum(-left, 0)))
    y: Ints = RSQRT[(m >> 24) - 64]
    return rne(y * (3 * 2**30 - rne(m * y * y, 30)), 16), e


def rms_norm(x: Ints, eps: int, by: Factor, bits: int) -> Ints:
    """Return codes of x / √(mean x² + ε) · w over the last axis.

    n = x / √(Σx² + ε_q) with 24 fraction bits; then `requant` by √D · w / scale · 2^−24.

    Args:
        x: int16 `[..., D]`.
        eps: ε_q = D·ε / s², at least 1.
        by: `[D]`.
        bits: of the codes.
    """
    bounded("the operand of RMSNorm", x, 2**15 - 1)
    y, e = rsqrt((x * x).sum(-1, keepdims=True) + eps)
    return requant(rne(x * y, 6 + e), by, bits)


def standardize(x: Ints, by: int, bits: int) -> tuple[Ints, Ints, Ints]:
    """Return codes of (x − μ)/σ over the last axis, μ with 16 and σ with 21 fraction bits.

    Args:
        x: 16 fraction bits, |x| < 2^24, `[..., L]`, L ≤ 4096.
        by: round(2^21 / scale of the codes), below 2^31.
        bits: of the codes.

    Raises:
        DataError: out of these bounds.
    """
    length = x.shape[-1]
    if length > 4096:
        raise DataError(f"{length} readings; instance norm takes at most 4096")
    bounded("readings", x, 2**24 - 1)
    mean = divide(x.sum(-1, keepdims=True), length)
    centred = x - mean
    std = isqrt((divide((centred * centred).sum(-1, keepdims=True), length) + _EPS) << 10)
    return sat(divide(centred * by, std << 16), bits), mean, std


def restore(t: Ints, mean: Ints, std: Ints) -> Ints:
    """Return t·σ + μ with 16 fraction bits, t with 20, |t| < 2^26."""
    bounded("a forecast", t, 2**26 - 1)
    bounded("a deviation", std, 2**31)
    return clamp(rne(t * std, 25) + mean, 2**31 - 1)


def gate(y: Ints, scale: Ints, shift: Ints) -> Ints:
    """Return sat_16(y·scale + shift): y and shift int16, scale with 15 fraction bits below 1."""
    bounded("the operand of a gate", y, 2**15 - 1)
    return sat(rne(y * bounded("a gate", scale, 2**15 - 1), 15) + shift, 16)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScanTables:
    """What a scan looks up, and how it shifts.

    Args:
        delta: Δ by code, uint16 `[256]`.
        decay: exp(−Δ·exp(A_log)) by state and code, 15 fraction bits, `[N, 256]`.
        silu: SiLU of z by code, int8 `[256]`.
        t: bits that Δ·x loses, 0 to 8.
        j: bits by which B is raised, 0 to 8.
        state: multiplier of h·C.
        skip: multiplier of D·x.
        shift: of their sum.
        out: factor of y·silu(z).
        bits: of the result.
    """

    delta: Ints
    decay: Ints
    silu: Ints
    t: int
    j: int
    state: Ints
    skip: Ints
    shift: Ints
    out: Factor
    bits: int


def scan(x: Ints, p: Ints, b: Ints, c: Ints, d: Ints, z: Ints, tables: ScanTables) -> tuple[Ints, dict[str, Ints]]:
    """Run the selective scan; each state starts at 0.

    h ← sat₁₆(rne(a·h + ((w·B) << j), 15)), w = sat₁₆(rne(Δ·x, t)); y = sat₁₆(rne(Σ h·C·M₁ + D·x·M₂, s));
    out = requant(y · silu(z)).

    Args:
        x: int8 `[B, K, E]`.
        p: index of the tables, int8 `[B, K, E]`.
        b: int8 `[B, K, N]`.
        c: int8 `[B, K, N]`.
        d: int8 `[B, K, E]`.
        z: int8 `[B, K, E]`.
        tables: of this scan.

    Returns:
        The codes `[B, K, E]`, and by name what lies between: delta, w, y, z `[B, K, E]`, h `[B, K, E, N]`.

    Raises:
        DataError: a value passes its bound.
    """
    if not (0 <= tables.t <= 8 and 0 <= tables.j <= 8):
        raise DataError(f"shifts t = {tables.t} and j = {tables.j} of a scan; expected 0 to 8")
    for name, v in (("x", x), ("B", b), ("C", c), ("D", d)):
        bounded(f"{name} of a scan", v, 127)
    bounded("Δ of a scan", tables.delta, 2**16 - 1)
    bounded("decays of a scan", tables.decay, 2**15 - 1)
    delta = lookup(tables.delta, p)
    w = sat(rne(delta * x, tables.t), 16)
    index = bounded("p of a scan", p, 127) + 128
    raised = b << tables.j
    states = np.zeros((*x.shape, b.shape[-1]), np.int64)
    h = np.zeros((x.shape[0], x.shape[2], b.shape[-1]), np.int64)
    by_code = np.ascontiguousarray(tables.decay.T)
    for k in range(x.shape[1]):
        total = by_code[index[:, k]]
        total *= h
        total += w[:, k, :, None] * raised[:, k, None, :]
        h = sat(rne(bounded("the state of a scan", total, 2**31 - 1 - 2**14), 15), 16)
        states[:, k] = h
    read = bounded("h·C of a scan", np.einsum("bken,bkn->bke", states, c), 2**31 - 1)
    y = dual(read, d * x, tables.state, tables.skip, tables.shift, 16)
    g = lookup(tables.silu, z)
    return requant(y * g, tables.out, tables.bits), {"delta": delta, "w": w, "h": states, "y": y, "z": g}
