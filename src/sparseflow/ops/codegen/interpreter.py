"""Executes any schedule, slowly and plainly: what generated code must agree with."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import MeasurementError, UnsupportedError
from sparseflow.ops.codegen.einsum import Floats, check_operands
from sparseflow.ops.codegen.schedule import Schedule, refusal
from sparseflow.ops.formats import Packed
from sparseflow.ops.formats.reference import children, inside

__all__ = ["run"]

Place = tuple[int, ...]
Step = tuple[int, int]


class _Nest:
    def __init__(self, op: str, packed: Packed, s: Schedule, operands: tuple[Floats, ...], n: int, seed: int) -> None:
        self.op, self.packed, self.s, self.operands, self.n = op, packed, s, operands, n
        self.rng = np.random.default_rng(seed)
        shape = {"spmv": packed.shape[:1], "spmm": (packed.shape[0], n), "sddmm": packed.values.shape}[op]
        self.result = np.zeros(shape, packed.values.dtype)
        self.first, self.end = 0, n
        self.lanes: dict[Place, Any] | None = None
        self.written: set[Place] | None = None

    def iterations(self, axis: str, node: int) -> list[Step]:
        width = self.end - self.first
        sizes = {"j": width, "j0": -(-width // self.s.inner), "j1": self.s.inner}
        if axis in sizes:
            return [(c, node) for c in range(sizes[axis])]
        return list(children(self.packed, self.packed.format.axes.index(axis), node))

    def entries_below(self, axis: str, node: int) -> int:
        depth = self.packed.format.axes.index(axis) + 1
        below = self.packed.format.axes[depth:]
        return 1 if not below else sum(self.entries_below(below[0], n) for _, n in self.iterations(below[0], node))

    def shares(self, axis: str, steps: list[Step]) -> list[list[Step]]:
        threads, chunk = self.s.threads, self.s.chunk
        if self.s.partition == "nnz":
            ends = np.cumsum([self.entries_below(axis, node) for _, node in steps])
            owners = [max(int(end - 1), 0) * threads // max(int(ends[-1]), 1) for end in ends]
            return [[step for step, o in zip(steps, owners, strict=True) if o == t] for t in range(threads)]
        chunks = [steps[at : at + chunk] for at in range(0, len(steps), chunk)]
        owners = [n % threads for n in range(len(chunks))]
        if self.s.partition == "dynamic":
            owners = [int(t) for t in self.rng.integers(threads, size=len(chunks))]
        return [[step for c, o in zip(chunks, owners, strict=True) if o == t for step in c] for t in range(threads)]

    def walk(self, depth: int, node: int, axes: dict[str, int]) -> None:
        if depth == len(self.s.order):
            self.leaf(node, axes)
            return
        axis = self.s.order[depth]
        steps = self.iterations(axis, node)
        if axis == self.s.parallel:
            self.parallel(depth, steps, axes)
        elif axis == self.s.vector:
            self.lanes = {}
            for c, below in steps:
                self.walk(depth + 1, below, {**axes, axis: c})
            lanes, self.lanes = self.lanes, None
            for place, value in lanes.items():
                self.add(place, value)
        else:
            factor = self.s.factor if axis == self.s.unroll else 1
            for at in range(0, len(steps), factor):
                for c, below in steps[at : at + factor]:
                    self.walk(depth + 1, below, {**axes, axis: c})

    def parallel(self, depth: int, steps: list[Step], axes: dict[str, int]) -> None:
        axis = self.s.order[depth]
        shares = self.shares(axis, steps)
        written: set[Place] = set()
        for t in self.rng.permutation(len(shares)):
            self.written = set()
            for c, below in shares[t]:
                self.walk(depth + 1, below, {**axes, axis: c})
            if written & self.written:
                raise MeasurementError(f"two threads wrote result {min(written & self.written)} of {self.op}")
            written |= self.written
        self.written = None

    def leaf(self, node: int, axes: dict[str, int]) -> None:
        place = inside(self.packed, axes)
        j = self.first + axes.get("j0", 0) * self.s.inner + axes.get("j1", 0) + axes.get("j", 0)
        if place is None or j >= self.end:
            return
        (i, k), value = place, self.packed.values[node]
        if self.op == "spmv":
            self.add((i,), value * self.operands[0][k])
        elif self.op == "spmm":
            self.add((i, j), value * self.operands[0][k, j])
        else:
            self.add((node,), value * self.operands[0][i, j] * self.operands[1][j, k])

    def add(self, place: Place, value: Any) -> None:
        if self.lanes is not None:
            self.lanes[place] = self.lanes[place] + value if place in self.lanes else value
            return
        if self.written is not None:
            self.written.add(place)
        self.result[place] += value


def run(op: str, packed: Packed, schedule: Schedule, *operands: Floats, seed: int = 0) -> NDArray[np.floating[Any]]:
    """Compute a product as a schedule says, one step at a time in the type of the matrix.

    Loops follow the order, threads get their shares and run one after the other in random order, lanes are gathered
    before they are added to results, panels follow each other. Registers, prefetches and stores past the caches change
    no value. Padding is multiplied as kernels do, so that operands must be finite.

    Args:
        op: "spmv", "spmm" or "sddmm".
        packed: A.
        schedule: the schedule.
        operands: x `[K]`, X `[K, J]`, or B `[I, J]` and C `[J, K]`; of A's type.
        seed: of the order of threads, and of who takes which chunk.

    Returns:
        `[I]`, `[I, J]`, or, for "sddmm", the value of each entry in the order of the CSR matrix, `[nnz]`.

    Raises:
        ConfigError: no such product, or operands of other shapes.
        UnsupportedError: the schedule does not fit, with the reason.
        MeasurementError: two threads wrote the same result.
    """
    refused = refusal(op, packed.format, schedule)
    if refused is not None:
        raise UnsupportedError(f"{op} by {' '.join(schedule.order)}: {refused.reason}")
    n = check_operands(op, packed.shape, operands)
    nest = _Nest(op, packed, schedule, operands, n, seed)
    width = schedule.panel or max(n, 1)
    for first in range(0, n, width):
        nest.first, nest.end = first, min(first + width, n)
        nest.walk(0, 0, {})
    return nest.result[packed.slots] if op == "sddmm" else nest.result
