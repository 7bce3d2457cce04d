"""Random and edge vectors for the designs, and what the arithmetic says of them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparseflow.export.fpga.drive import Matrix
from sparseflow.export.fpga.network import Scan
from sparseflow.ops.fixed_point import Factor, Ints, ScanTables, factor, linear, lookup, requant, rne, sat, scan

__all__ = [
    "calls", "expected", "expected_average", "expected_scan", "matrices", "operands", "random_matrix", "random_scans",
    "scan_tables", "sigmoid_table",
]  # fmt: skip

Generator = np.random.Generator
Call = tuple[int, Ints]


def random_matrix(
    g: Generator, outputs: int, inputs: int, bits: int = 8, *, spread: int = 127, shift: int | None = None
) -> Matrix:
    """Return a random layer.

    Args:
        g: source of chance.
        outputs: M.
        inputs: N.
        bits: of the outputs.
        spread: largest weight.
        shift: if given, all factors are ±2^-shift, so that halves are frequent.
    """
    weight = g.integers(-spread, spread + 1, (outputs, inputs))
    bias = g.integers(-(2**14), 2**14, outputs) if shift is None else g.integers(-7, 8, outputs)
    sign = g.choice([-1.0, 1.0], outputs)
    real = sign * (2.0 ** g.uniform(-16, -6, outputs) if shift is None else 2.0**-shift)
    return Matrix(weight=weight, bias=bias, factor=factor(real * 256 if bits > 8 else real), bits=bits)


def matrices(g: Generator) -> list[Matrix]:
    """Return layers that are odd in size, saturate, round halves, and reach the bounds of 32 bits."""
    most = np.full((8, 512), 127)
    full = Factor(multiplier=np.full(8, -(2**31) + 1), shift=np.arange(34, 42))
    ends = np.array([2**31 - 1, -(2**31) + 1, 0])
    sizes = ((24, 40, 8), (8, 8, 8), (17, 3, 16), (30, 100, 27), (1, 1, 8), (10, 20, 4))
    return [
        *(random_matrix(g, m, n, bits) for m, n, bits in sizes),
        random_matrix(g, 16, 16, spread=3, shift=1),
        random_matrix(g, 16, 16, spread=3, shift=2),
        random_matrix(g, 9, 33, 16, shift=3),
        Matrix(weight=most, bias=np.full(8, 2**31 - 1 - 127 * 127 * 512), factor=full, bits=27),
        Matrix(weight=np.zeros((3, 5), np.int64), bias=ends, factor=factor([0.0, 2.0**-31, 1.0])),
    ]


def calls(g: Generator, layers: Sequence[Matrix], count: int) -> list[Call]:
    """Return vectors for the layers in random order, a tenth of them with nothing but ±127."""
    made = []
    for i in g.integers(0, len(layers), count):
        n = layers[i].weight.shape[1]
        x = g.integers(-127, 128, n) if g.random() < 0.9 else g.choice([-127, 127], n)
        made.append((int(i), x if g.random() < 0.98 else np.full(n, g.choice([-127, 0, 127]))))
    return made


def expected(layers: Sequence[Matrix], vectors: Sequence[Call]) -> list[Ints]:
    """Return what each call gives."""
    found = [np.zeros(0, np.int64)] * len(vectors)
    for i, layer in enumerate(layers):
        at = [k for k, (j, _) in enumerate(vectors) if j == i]
        if at:
            sums = linear(np.stack([vectors[k][1] for k in at]), layer.weight, layer.bias)
            for k, y in zip(at, requant(sums, layer.factor, layer.bits), strict=True):
                found[k] = y
    return found


def scan_tables(g: Generator, states: int = 16, *, t: int = 6, j: int = 3, bits: int = 8) -> ScanTables:
    """Return tables of a scan as a network would have them: softplus, decays and SiLU over their codes.

    The multipliers are large, so that y and its saturation, halves and last bits are all seen.
    """
    codes = np.arange(-128, 128)
    step = np.log1p(np.exp(codes / 20))
    return ScanTables(
        delta=np.minimum(np.rint(step / step[-1] * 65535), 65535).astype(np.int64),
        decay=np.minimum(np.rint(2**15 * np.exp(-step * g.uniform(0.01, 3, (states, 1)))), 32767).astype(np.int64),
        silu=sat(np.rint(codes / (1 + np.exp(-codes / 20))).astype(np.int64), 8),
        t=t,
        j=j,
        state=np.asarray(2**30 + 12345),
        skip=np.asarray(-(2**30) + 777),
        shift=np.asarray(35),
        out=factor(2.0**-12),
        bits=bits,
    )


def operands(g: Generator, many: int, steps: int, channels: int, states: int) -> tuple[Ints, ...]:
    """Return x, p, B, C, D and z; the first sequence has nothing but ±127, the second largest steps and inputs."""

    def codes(*shape: int) -> Ints:
        made = g.integers(-127, 128, shape)
        made[:1] = g.choice([-127, 127], (1, *shape[1:]))
        if many > 1:
            made[1] = 127
        return made

    wide, narrow = (many, steps, channels), (many, steps, states)
    return tuple(codes(*shape) for shape in (wide, wide, narrow, narrow, wide, wide))


def random_scans(g: Generator, count: int, steps: int = 12) -> list[Scan]:
    """Return scans of `count` steps in all, in sequences of `steps`, with what the arithmetic says of them.

    Of 128 channels; of 5, with shifts that lose nothing; of 3, which wait for their own states, with halves
    everywhere; and of 16 whose decays and steps are the largest, so that states saturate.
    """
    plain = scan_tables(g)
    even = np.asarray(2**30)
    kinds = [
        (0.4, 128, plain),
        (0.2, 5, replace(scan_tables(g), t=0, j=0)),
        (0.2, 3, replace(plain, t=8, state=even, skip=even, shift=np.asarray(36), out=factor(2.0**-4))),
        (0.2, 16, replace(plain, t=8, j=8, delta=0 * plain.delta + 65535, decay=0 * plain.decay + 32767)),
    ]
    made = []
    for share, channels, tables in kinds:
        x, p, b, c, d, z = operands(g, math.ceil(share * count / steps), steps, channels, len(tables.decay))
        outputs = expected_scan(x, p, b, c, d, z, tables)
        made.append(Scan(name=f"{channels} channels", tables=tables, operands=(x, p, b, c, d, z), outputs=outputs))
    return made


def expected_scan(x: Ints, p: Ints, b: Ints, c: Ints, d: Ints, z: Ints, tables: ScanTables) -> Ints:
    """Return the codes, and y before the gate, as `run_scan` orders them: `[B · K, 2, E]`."""
    out, between = scan(x, p, b, c, d, z, tables)
    return np.stack([out, between["y"]], 2).reshape(-1, 2, x.shape[2])


def expected_average(layer: Matrix, rates: Ints, inputs: Ints, first: Sequence[bool], shift: int) -> Ints:
    """Return the states of `sf_slim_step` after each step."""
    state, found = np.zeros(len(layer.bias), np.int64), []
    for u, new in zip(inputs, first, strict=True):
        rate = lookup(rates, requant(linear(u, layer.weight, layer.bias), layer.factor, 8))
        state = sat(rne(rate * (0 * state if new else state) + (2**15 - rate) * (u << shift), 15), 16)
        found.append(state)
    return np.stack(found)


def sigmoid_table(scale: float = 1 / 20) -> Ints:
    """Return the sigmoid with 15 fraction bits by code."""
    table: Ints = np.minimum(np.rint(2**15 / (1 + np.exp(-np.arange(-128, 128) * scale))), 32767).astype(np.int64)
    return table
