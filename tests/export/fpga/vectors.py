"""Random and edge vectors for the designs, and what the arithmetic says of them."""

import shutil

import numpy as np
import pytest

from sparseflow.export.fpga import Matrix
from sparseflow.ops.fixed_point import Factor, ScanTables, factor, linear, lookup, requant, rne, sat, scan

needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="Verilator is not installed; apt-get install verilator"
)


def matrix(g, m, n, bits=8, *, spread=127, shift=None):
    """Return a random layer; with `shift` its factors are 2^-shift, so that halves are frequent."""
    weight = g.integers(-spread, spread + 1, (m, n))
    bias = g.integers(-(2**14), 2**14, m) if shift is None else g.integers(-7, 8, m)
    real = g.choice([-1.0, 1.0], m) * (2.0 ** g.uniform(-16, -6, m) if shift is None else 2.0**-shift)
    return Matrix(weight=weight, bias=bias, factor=factor(real * 256 if bits > 8 else real), bits=bits)


def matrices(g):
    """Return layers that are odd in size, saturate, round halves, and reach the bounds of 32 bits."""
    most = np.full((8, 512), 127)
    full = Factor(multiplier=np.full(8, -(2**31) + 1), shift=np.arange(34, 42))
    return [
        matrix(g, 24, 40), matrix(g, 8, 8), matrix(g, 17, 3, 16), matrix(g, 30, 100, 27), matrix(g, 1, 1),
        matrix(g, 10, 20, 4), matrix(g, 16, 16, spread=3, shift=1), matrix(g, 16, 16, spread=3, shift=2),
        matrix(g, 9, 33, 16, shift=3),
        Matrix(weight=most, bias=np.full(8, 2**31 - 1 - 127 * 127 * 512), factor=full, bits=27),
        Matrix(weight=np.zeros((3, 5), np.int64), bias=np.array([2**31 - 1, -(2**31) + 1, 0]),
               factor=factor([0.0, 2.0**-31, 1.0])),
    ]  # fmt: skip


def calls(g, layers, count):
    """Return vectors for the layers in random order, a tenth of them with nothing but ±127."""
    made = []
    for i in g.integers(0, len(layers), count):
        n = layers[i].weight.shape[1]
        x = g.integers(-127, 128, n) if g.random() < 0.9 else g.choice([-127, 127], n)
        made.append((int(i), x if g.random() < 0.98 else np.full(n, g.choice([-127, 0, 127]))))
    return made


def expected(layers, vectors):
    """Return what each call gives."""
    found = [None] * len(vectors)
    for i, layer in enumerate(layers):
        at = [k for k, (j, _) in enumerate(vectors) if j == i]
        if at:
            sums = linear(np.stack([vectors[k][1] for k in at]), layer.weight, layer.bias)
            for k, y in zip(at, requant(sums, layer.factor, layer.bits), strict=True):
                found[k] = y
    return found


def tables(g, states=16, *, t=6, j=3, bits=8):
    """Return tables of a scan as a network would have them: softplus, decays and SiLU over their codes."""
    codes = np.arange(-128, 128)
    step = np.log1p(np.exp(codes / 20))
    return ScanTables(
        delta=np.minimum(np.rint(step / step[-1] * 65535), 65535).astype(np.int64),
        decay=np.minimum(np.rint(2**15 * np.exp(-step * g.uniform(0.01, 3, (states, 1)))), 32767).astype(np.int64),
        silu=sat(np.rint(codes / (1 + np.exp(-codes / 20))).astype(np.int64), 8), t=t, j=j,
        state=np.int64(2**30 + 12345), skip=np.int64(-(2**30) + 777), shift=np.int64(35),
        out=factor(2.0**-12), bits=bits,
    )  # fmt: skip


def operands(g, many, steps, channels, states):
    """Return x, p, B, C, D and z; the first sequence has nothing but ±127, the second largest steps and inputs."""

    def codes(*shape):
        made = g.integers(-127, 128, shape)
        made[:1] = g.choice([-127, 127], (1, *shape[1:]))
        if many > 1:
            made[1] = 127
        return made

    return (*(codes(many, steps, channels) for _ in range(2)), *(codes(many, steps, states) for _ in range(2)),
            *(codes(many, steps, channels) for _ in range(2)))  # fmt: skip


def expected_scan(x, p, b, c, d, z, given):
    """Return the codes and y, as `run_scan` orders them: `[B * K, 2, E]`."""
    out, between = scan(x, p, b, c, d, z, given)
    return np.stack([out, between["y"]], 2).reshape(-1, 2, x.shape[2])


def expected_average(layer, rates, inputs, first, shift):
    """Return the states of an exponential average after each step."""
    state, found = np.zeros(len(layer.bias), np.int64), []
    for u, new in zip(inputs, first, strict=True):
        rate = lookup(rates, requant(linear(u, layer.weight, layer.bias), layer.factor, 8))
        state = sat(rne(rate * (0 * state if new else state) + (2**15 - rate) * (u << shift), 15), 16)
        found.append(state)
    return np.stack(found)


def sigmoid_table(scale=1 / 20):
    """Return the sigmoid with 15 fraction bits by code."""
    return np.minimum(np.rint(2**15 / (1 + np.exp(-np.arange(-128, 128) * scale))), 32767).astype(np.int64)
