"""The designs fed with arrays: what goes in and what comes out, in the numbers of the arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError
from sparseflow.export.fpga.child import Limits
from sparseflow.export.fpga.layout import factor_words, pad, tile
from sparseflow.export.fpga.simulate import Design, Pauses, Simulation, simulate
from sparseflow.ops.fixed_point import Factor, Ints, ScanTables

__all__ = ["Array", "Matrix", "Run", "commands_of", "run_matvec", "run_scan", "run_slim_step"]

Changes = Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Array:
    """Sizes of the array of multipliers.

    Args:
        rows: outputs at once.
        columns: inputs at once.
        lanes: outputs requantised a cycle; divides `rows`. Nothing waits for them where N ≥ columns · rows / lanes.
    """

    rows: int = 8
    columns: int = 8
    lanes: int = 4

    def __post_init__(self) -> None:
        sizes = (self.rows, self.columns, self.lanes)
        if any(n not in (1, 2, 4, 8, 16) for n in sizes) or self.lanes > self.rows or self.columns < 2:
            raise ConfigError(f"an array of {sizes}; give powers of two up to 16, lanes ≤ rows and columns ≥ 2")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Matrix:
    """A linear layer in integers.

    Args:
        weight: int8 `[M, N]`.
        bias: int32 `[M]`.
        factor: of the requantisation, `[M]`.
        bits: of the outputs, 2 to 27; they saturate at ±(2^(bits - 1) - 1).
    """

    weight: Ints
    bias: Ints
    factor: Factor
    bits: int = 8


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Outputs of a simulation, and how long it took.

    Args:
        outputs: one array a command.
        ends: the cycle in which the last output of each command left, counted from the first input.
        simulation: all of it.
    """

    outputs: tuple[Ints, ...]
    ends: Ints
    simulation: Simulation

    @property
    def cycles(self) -> int:
        """Cycles from the first input to the last output."""
        return self.simulation.cycles


def commands_of(matrices: Sequence[Matrix], array: Array | None = None) -> list[tuple[int, int, int, int, int]]:
    """Return the command of each matrix where all lie one behind the other in the memories of `sf_matvec`.

    Returns:
        Of each its first tile, its first word of factors, tiles across and row blocks, each less 1, and bits less 1.
    """
    array = array or Array()
    found, w, p = [], 0, 0
    for m in matrices:
        down, across = -(-m.weight.shape[0] // array.rows), -(-m.weight.shape[1] // array.columns)
        found.append((w, p, across - 1, down - 1, m.bits - 1))
        w, p = w + down * across, p + down * array.rows // array.lanes
    return found


def run_matvec(
    matrices: Sequence[Matrix],
    calls: Sequence[tuple[int, Ints]],
    *,
    array: Array | None = None,
    pauses: Pauses | None = None,
    limits: Limits | None = None,
    changes: Changes = (),
) -> Run:
    """Multiply vectors by matrices on `sf_matvec`, one command after the other.

    Args:
        matrices: all lie in its memories.
        calls: number of a matrix and int8 vector `[N]`, each.
        array: sizes.
        pauses: at the ports.
        limits: of the child process.
        changes: faults put in on purpose, as `Design` has them.
    """
    array = array or Array()
    r, c, lanes = array.rows, array.columns, array.lanes
    tiles = [tile(m.weight, r, c) for m in matrices]
    words = [factor_words(m.bias, m.factor, r, lanes) for m in matrices]
    placed = commands_of(matrices, array)
    at_w, at_p = [p[0] for p in placed], [p[1] for p in placed]
    across, down = [p[2] + 1 for p in placed], [p[3] + 1 for p in placed]
    commands = np.array([placed[i] for i, _ in calls], "<u4")
    parameters = {
        "ROWS": r, "COLS": c, "LANES": lanes, "W_DEPTH": max(8192, _power(at_w[-1] + len(tiles[-1]))),
        "P_DEPTH": max(1024, _power(at_p[-1] + len(words[-1]))), "X_DEPTH": max(256, _power(max(across))),
    }  # fmt: skip
    widths = {"W_BYTES": r * c, "P_BYTES": 9 * lanes, "S_BYTES": c, "M_BYTES": 4 * lanes}
    vectors = np.concatenate([pad(x, c) for _, x in calls]).astype(np.int8).view(np.uint8).reshape(-1, c)
    beats = [down[i] * r // lanes for i, _ in calls]
    simulation = simulate(
        Design(top="sf_matvec", parameters=parameters, widths=widths, changes=changes),
        {"w": _addressed(tiles), "p": _addressed(words), "cmd": commands.view(np.uint8), "s": vectors},
        sum(beats), pauses=pauses, limits=limits,
    )  # fmt: skip
    numbers = _signed(simulation.beats[:, : 4 * lanes], "<i4")
    outputs, ends = _split(simulation, numbers, beats, 4 * lanes)
    sizes = [len(matrices[i].bias) for i, _ in calls]
    cut = tuple(one.reshape(-1)[:size] for one, size in zip(outputs, sizes, strict=True))
    return Run(outputs=cut, ends=ends, simulation=simulation)


def run_slim_step(
    matrix: Matrix,
    rates: Ints,
    inputs: Ints,
    first: Sequence[bool],
    *,
    shift: int = 7,
    pauses: Pauses | None = None,
    limits: Limits | None = None,
    changes: Changes = (),
) -> Run:
    """Run steps of an exponential average on `sf_slim_step`.

    Args:
        matrix: square, of 64, 128 or 256 channels, with outputs of 8 bits.
        rates: at code + 128, with 15 fraction bits, `[256]`.
        inputs: int8 `[steps, size]`.
        first: whether the state is 0 before a step.
        shift: an input counts 2^shift steps of the state.
        pauses: at the ports.
        limits: of the child process.
        changes: faults put in on purpose.
    """
    size = len(matrix.bias)
    if matrix.weight.shape != (size, size) or size not in (64, 128, 256, 512):
        raise ConfigError(f"a matrix of shape {list(matrix.weight.shape)}; expected a square of 64 to 512")
    design = Design(
        top="sf_slim_step", parameters={"SIZE": size, "U_SHIFT": shift}, changes=changes,
        widths={"W_BYTES": 64, "P_BYTES": 36, "S_BYTES": 8, "M_BYTES": 8},
    )  # fmt: skip
    tiles, words = tile(matrix.weight), factor_words(matrix.bias, matrix.factor)
    beats = [size // 4] * len(inputs)
    simulation = simulate(
        design,
        {
            "w": _addressed([tiles]), "p": _addressed([words]), "t": _addressed([_bytes(rates[:, None], "<u2")]),
            "cmd": np.array(first, np.uint8)[:, None], "s": inputs.astype(np.int8).view(np.uint8).reshape(-1, 8),
        },
        sum(beats), pauses=pauses, limits=limits,
    )  # fmt: skip
    outputs, ends = _split(simulation, _signed(simulation.beats[:, :8], "<i2"), beats, 8)
    return Run(outputs=tuple(one.reshape(-1) for one in outputs), ends=ends, simulation=simulation)


def run_scan(
    tables: ScanTables,
    x: Ints,
    p: Ints,
    b: Ints,
    c: Ints,
    d: Ints,
    z: Ints,
    *,
    pauses: Pauses | None = None,
    limits: Limits | None = None,
    changes: Changes = (),
) -> Run:
    """Run selective scans on `sf_scan`.

    Args:
        tables: of the scan; its result has 8 bits.
        x: int8 `[B, K, E]`.
        p: index of the tables, int8 `[B, K, E]`.
        b: int8 `[B, K, N]`.
        c: int8 `[B, K, N]`.
        d: int8 `[B, K, E]`.
        z: int8 `[B, K, E]`.
        pauses: at the ports.
        limits: of the child process.
        changes: faults put in on purpose.

    Returns:
        Of each step, in order, `[2, E]`: the codes, and y before the gate.
    """
    many, steps, channels = x.shape
    states = b.shape[-1]
    first = np.zeros((many, steps, 1), np.uint8)
    first[:, :1] = 1
    step = np.concatenate([_bytes(b, "i1"), _bytes(c, "i1"), first], -1).reshape(many * steps, -1)
    beats = np.stack([p, x, d, z], -1).astype(np.int8).view(np.uint8).reshape(-1, 4)
    words = np.concatenate([tables.delta[:, None], tables.decay.T], 1)
    for name, value in (("M_h", tables.state), ("M_D", tables.skip), ("M_o", tables.out.multiplier)):
        if np.size(value) != 1 or abs(int(np.reshape(value, ()))) >= 2**31:
            raise ConfigError(f"{name} of a scan is not one number of 32 bits; mend the scales")
    constants = [channels - 1, tables.t, tables.j, tables.state, tables.skip, tables.out.multiplier, tables.shift,
                 tables.out.shift, tables.bits - 1]  # fmt: skip
    design = Design(
        top="sf_scan", parameters={"STATES": states, "CHANNELS": max(_power(channels), 16), "SETS": 2},
        widths={"T_BYTES": 2 * states + 2, "B_BYTES": 2 * states + 1}, changes=changes,
    )  # fmt: skip
    simulation = simulate(
        design,
        {
            "t": _addressed([_bytes(words, "<u2")]), "g": _addressed([_bytes(tables.silu[:, None], "i1")]),
            "set": np.array([[int(np.reshape(v, ())) for v in constants]], "<i4").view(np.uint8),
            "b": step, "s": beats,
        },
        len(beats), pauses=pauses, limits=limits,
    )  # fmt: skip
    out, y = _signed(simulation.beats[:, :1], "i1"), _signed(simulation.beats[:, 1:3], "<i2")
    found, ends = _split(simulation, np.concatenate([out, y], 1), [channels] * (many * steps), 3)
    return Run(outputs=tuple(one.T for one in found), ends=ends, simulation=simulation)


def _split(simulation: Simulation, numbers: Ints, beats: list[int], last: int) -> tuple[list[Ints], Ints]:
    """Cut what came out at the ends of commands, and hold the marks of last beats to them."""
    ends = np.cumsum(beats)
    marks = np.flatnonzero(simulation.beats[:, last])
    if not np.array_equal(marks, ends - 1):
        raise ConfigError("the marks of last beats stand elsewhere than the commands say")
    return np.split(numbers, ends[:-1]), simulation.at[ends - 1].astype(np.int64) - simulation.first + 1


def _power(n: int) -> int:
    return 1 << max(1, (n - 1).bit_length())


def _bytes(values: Ints, kind: str) -> NDArray[np.uint8]:
    made = np.ascontiguousarray(values.astype(kind))
    return made.view(np.uint8).reshape(*values.shape[:-1], -1)


def _signed(data: NDArray[np.uint8], kind: str) -> Ints:
    return np.ascontiguousarray(data).view(kind).astype(np.int64)


def _addressed(parts: Sequence[NDArray[np.generic]]) -> NDArray[np.uint8]:
    """Put its address before each word."""
    words = np.concatenate([np.ascontiguousarray(part).view(np.uint8) for part in parts])
    at = np.arange(len(words), dtype="<u4")[:, None].view(np.uint8)
    return np.concatenate([at, words], 1)
