"""The comparisons of a pack with the arithmetic, each a row: how many numbers, and how many of them differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from sparseflow.errors import DataError, MeasurementError, UnsupportedError
from sparseflow.export.fpga import Pauses, run_matvec, run_scan
from sparseflow.export.fpga.drive import Matrix
from sparseflow.export.fpga.edges import edges_of_layers, edges_of_scans
from sparseflow.export.fpga.hls import hls_matvec, hls_scan, predict
from sparseflow.export.fpga.network import Layer, Scan, scans
from sparseflow.export.fpga.pack import Pack
from sparseflow.export.fpga.vectors import calls, expected, matrices, random_scans
from sparseflow.nn.models.cmamba import IntRef, ModelArgs
from sparseflow.nn.models.cmamba.int_engine import ABSENT, IntEngine, isas
from sparseflow.nn.models.cmamba.int_kernels import linear_codes, scan_codes
from sparseflow.ops.fixed_point import Ints

__all__ = ["Drawn", "Row", "draw", "engine_rows", "hls_rows", "reference_row", "verilog_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Args:
        name: what was compared with the arithmetic.
        of: numbers compared.
        mismatches: how many differ; None where it could not run.
        cycles: simulated, where there are any.
        note: why it did not run, or what else is to say.
    """

    name: str
    of: int = 0
    mismatches: int | None = None
    cycles: int | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Drawn:
    """Random and edge vectors with what the arithmetic says of them.

    Args:
        layers: integers of linear layers.
        vectors: number of a layer and its vector, each.
        outputs: of each vector.
        scans: with their operands and outputs.
    """

    layers: Sequence[Matrix]
    vectors: Sequence[tuple[int, Ints]]
    outputs: Sequence[Ints]
    scans: Sequence[Scan]

    @property
    def edges(self) -> dict[str, dict[str, int]]:
        """How often they meet ends of the codes, halves and saturation."""
        return {"linear": edges_of_layers(self.layers, self.vectors), "scan": edges_of_scans(self.scans)}


def draw(count: int, seed: int = 12) -> Drawn:
    """Return `count` vectors of linear layers, and as many steps of scans."""
    g = np.random.default_rng(seed)
    kinds = matrices(g)
    vectors = calls(g, kinds, count)
    return Drawn(layers=kinds, vectors=vectors, outputs=expected(kinds, vectors), scans=random_scans(g, count))


def reference_row(pack: Pack) -> Row:
    """Compute every tensor anew from the arrays of a pack.

    Raises:
        DataError: the golden vectors are of other tensors.
    """
    reference = IntRef(ModelArgs.from_dict(dict(pack.spec.model)), dict(pack.arrays))
    taps = reference.taps(pack.golden["input"])
    if list(taps) != list(pack.golden):
        raise DataError("the golden vectors of the pack are of other tensors than its network has; export it again")
    golden = {name: codes.astype(np.int64) for name, codes in pack.golden.items()}
    wrong, of = _differ(list(taps.values()), list(golden.values()))
    return Row(name="IntRef, every tensor", of=of, mismatches=wrong)


def engine_rows(pack: Pack, drawn: Drawn | None) -> list[Row]:
    """Run the compiled engine by each instruction set of this machine: golden windows, then its kernels on vectors."""
    args, want = ModelArgs.from_dict(dict(pack.spec.model)), pack.golden["restore"].astype(np.int64)
    if ABSENT is not None:
        return [Row(name="C++ engine", note=ABSENT)]
    rows = []
    for isa in isas():
        found = IntEngine(args, pack.arrays, isa=isa).codes(pack.golden["input"].astype(np.int64))
        wrong, of = _differ([found], [want])
        rows.append(Row(name=f"C++ engine, {isa}, whole network", of=of, mismatches=wrong))
        if drawn is not None:
            multiply, scan = partial(_linear_codes, isa=isa), partial(_scan_codes, isa=isa)
            rows.append(_tried(f"C++ engine, {isa}, {_vectors(drawn)}", partial(_by_layer, drawn, multiply)))
            rows.append(_tried(f"C++ engine, {isa}, {_steps(drawn)}", partial(_by_scan, drawn, scan, slice(0, 1))))
    return rows


def hls_rows(folder: str, pack: Pack, drawn: Drawn | None) -> list[Row]:
    """Run the HLS C++: the whole network on the golden windows, and its kernels on random and edge vectors."""
    want = pack.golden["restore"].astype(np.int64)

    def network() -> tuple[int, int, None]:
        return *_differ([predict(folder, pack.golden["input"].astype(np.int64))], [want]), None

    rows = [_tried("HLS C++, whole network", network)]
    if drawn is not None:
        rows.append(_tried(f"HLS C++, {_vectors(drawn)}", partial(_by_layer, drawn, hls_matvec)))
        rows.append(_tried(f"HLS C++, {_steps(drawn)}", partial(_by_scan, drawn, _hls_scan, slice(None))))
    return rows


def verilog_rows(run: Sequence[Layer], pack: Pack, drawn: Drawn | None, pauses: Pauses) -> list[Row]:
    """Run the Verilog: golden vectors without pauses and with them, then random and edge vectors with them.

    The first two rows are the linear layers and the scans without pauses.
    """
    matrices_of = [layer.matrix for layer in run]
    vectors = [(i, x) for i, layer in enumerate(run) for x in layer.inputs]
    outputs = [y for layer in run for y in layer.outputs]
    golden = list(scans(pack))
    rows = []
    for name, given in (("", Pauses()), (", paused", pauses)):
        rows.append(_tried(f"Verilog, linear layers{name}", partial(_matvec, matrices_of, vectors, outputs, given)))
        rows.append(_tried(f"Verilog, scans{name}", partial(_scans, golden, given)))
    if drawn is not None:
        random = partial(_matvec, drawn.layers, drawn.vectors, drawn.outputs, pauses)
        rows.append(_tried(f"Verilog, {_vectors(drawn)}, paused", random))
        rows.append(_tried(f"Verilog, {_steps(drawn)}, paused", partial(_scans, drawn.scans, pauses)))
    return rows


def _by_layer(drawn: Drawn, run: Callable[[Matrix, Ints], Ints]) -> tuple[int, int, None]:
    """Run the vectors of each layer at once."""
    found, want = [], []
    for i, layer in enumerate(drawn.layers):
        at = [k for k, (j, _) in enumerate(drawn.vectors) if j == i]
        if at:
            found.append(run(layer, np.stack([drawn.vectors[k][1] for k in at])))
            want.append(np.stack([drawn.outputs[k] for k in at]))
    return *_differ(found, want), None


def _by_scan(drawn: Drawn, run: Callable[[Scan], Ints], part: slice) -> tuple[int, int, None]:
    """Run each scan; `part` says whether the codes, y before the gate, or both come out."""
    return *_differ([run(one) for one in drawn.scans], [one.outputs[:, part] for one in drawn.scans]), None


def _linear_codes(layer: Matrix, vectors: Ints, *, isa: str) -> Ints:
    return linear_codes(vectors, layer.weight, layer.bias, layer.factor, layer.bits, isa=isa)


def _scan_codes(one: Scan, *, isa: str) -> Ints:
    x, p, b, c, d, z = one.operands
    return scan_codes(x, p, b, c, d, z, one.tables, isa=isa).reshape(-1, 1, x.shape[2])


def _hls_scan(one: Scan) -> Ints:
    x, p, b, c, d, z = one.operands
    return hls_scan(one.tables, x, p, b, c, d, z)


def _vectors(drawn: Drawn) -> str:
    return f"{len(drawn.vectors):,} vectors of linear layers"


def _steps(drawn: Drawn) -> str:
    return f"{sum(len(one.outputs) for one in drawn.scans):,} steps of scans"


def _matvec(
    matrices: Sequence[Matrix], vectors: Sequence[tuple[int, Ints]], outputs: Sequence[Ints], pauses: Pauses
) -> tuple[int, int, int]:
    found = run_matvec(matrices, vectors, pauses=pauses)
    return *_differ(found.outputs, outputs), found.cycles


def _scans(given: Sequence[Scan], pauses: Pauses) -> tuple[int, int, int]:
    wrong = of = cycles = 0
    for one in given:
        found = run_scan(one.tables, *one.operands, pauses=pauses)
        more = _differ(found.outputs, list(one.outputs))
        wrong, of, cycles = wrong + more[0], of + more[1], cycles + found.cycles
    return wrong, of, cycles


def _tried(name: str, run: Callable[[], tuple[int, int, int | None]]) -> Row:
    """Return the row of a comparison, or of what it lacks."""
    try:
        wrong, of, cycles = run()
    except (UnsupportedError, MeasurementError) as e:
        return Row(name=name, note=str(e))
    return Row(name=name, of=of, mismatches=wrong, cycles=cycles)


def _differ(found: Sequence[Ints], want: Sequence[Ints]) -> tuple[int, int]:
    return sum(int((a != b).sum()) for a, b in zip(found, want, strict=True)), sum(b.size for b in want)
