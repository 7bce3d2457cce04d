"""A pack checked from all sides: hashes, IntRef, engine, HLS C++, Verilog on its golden vectors and random ones."""

import math
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sparseflow.errors import ConfigError, DataError, MeasurementError, UnsupportedError
from sparseflow.export.fpga import Pauses, run_matvec, run_scan, run_slim_step
from sparseflow.export.fpga.corrupt import CORRUPTIONS, spoil
from sparseflow.export.fpga.faults import FAULTS, mismatches
from sparseflow.export.fpga.hls import hls_matvec, hls_scan, predict
from sparseflow.export.fpga.network import Layer, layers, scans
from sparseflow.export.fpga.pack import Pack, read_pack
from sparseflow.export.fpga.synthesis import Cells, cells
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
from sparseflow.hardware import load_target
from sparseflow.nn.models.cmamba import IntRef, ModelArgs
from sparseflow.nn.models.cmamba.int_engine import ABSENT, IntEngine, isas
from sparseflow.ops.fixed_point import Ints
from sparseflow.recipes.checks import Check, checks_body

__all__ = ["VerifyConfig", "verify"]

_PRODUCTS = 64
_STEP = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """What is checked.

    Args:
        pack: folder of the pack.
        target: file or name of the device for the estimate.
        vectors: random and edge vectors of each kernel; 0 for none.
        pauses: percent of cycles in which ports pause, on both sides.
        cells: count cells with yosys, which takes minutes.
        corruptions: spoil copies of the pack, and see each refused.
        faults: put faults into the Verilog, and see each found.

    Raises:
        ConfigError: a number out of range.
    """

    pack: str
    target: str = "zcu102"
    vectors: int = 10_000
    pauses: int = 30
    cells: bool = False
    corruptions: bool = False
    faults: bool = False

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.vectors < 0:
            raise ConfigError(f"vectors is {self.vectors}; expected 0 or more")
        Pauses(inputs=self.pauses, outputs=self.pauses)


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


def verify(config: VerifyConfig, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Check a pack.

    Args:
        config: what is checked.
        say: called with what begins.

    Returns:
        `rows` of the table, `estimate` of cycles, seconds and joules a window, `cells` and what the target has, and
        `checks`.

    Raises:
        DataError: the pack is damaged; names the array.
        ConfigError: the target is unknown.
    """
    say("hashes and IntRef")
    pack = read_pack(config.pack)
    rows = [Row(name="hashes", of=len(pack.arrays) + len(pack.golden) + len(pack.files), mismatches=0), _int_ref(pack)]
    run, checks = list(layers(pack)), list[Check]()
    pauses = Pauses(inputs=config.pauses, outputs=config.pauses)
    rows += _engines(pack)
    say("HLS C++")
    rows.append(_tried("HLS C++, whole network", lambda: _hls_network(config.pack, pack)))
    if config.vectors:
        rows.append(_tried("HLS C++, vectors", lambda: _hls_vectors(config.vectors)))
    say("Verilog of the golden vectors")
    linear = _tried("Verilog, linear layers", lambda: _golden_layers(run, Pauses()))
    scanned = _tried("Verilog, scans", lambda: _golden_scans(pack, Pauses()))
    rows += [linear, scanned]
    rows.append(_tried("Verilog, linear layers, paused", lambda: _golden_layers(run, pauses)))
    rows.append(_tried("Verilog, scans, paused", lambda: _golden_scans(pack, pauses)))
    if config.vectors:
        say("Verilog of random and edge vectors")
        rows.append(_tried("Verilog, vectors, paused", lambda: _verilog_vectors(config.vectors, pauses)))
    say("cycles")
    checks += _cycles()
    estimate = _estimate(config.target, len(pack.golden["input"]), linear, scanned)
    if config.corruptions:
        checks.append(_corruptions(config.pack))
    if config.faults:
        say("faults put into the Verilog")
        checks.append(_faults())
    found = _cells(run, pack, config.target, checks) if config.cells else None
    wrong = sum(row.mismatches or 0 for row in rows)
    missing = sum(row.mismatches is None for row in rows)
    checks.insert(0, Check(show="1", name="mismatches", value=wrong, unit="", rule="==", bound=0))
    checks.insert(1, Check(show="1", name="rows that could not run", value=missing, unit="", rule="==", bound=0))
    return {
        "pack": config.pack, "settings": asdict(config), "qspec": pack.spec.digest, "rows": [asdict(r) for r in rows],
        "estimate": estimate, "cells": found, **checks_body(checks),
    }  # fmt: skip


def _tried(name: str, run: Callable[[], tuple[int, int, int | None]]) -> Row:
    """Return the row of a comparison, or of what it lacks."""
    try:
        wrong, of, cycles = run()
    except (UnsupportedError, MeasurementError) as e:
        return Row(name=name, note=str(e))
    return Row(name=name, of=of, mismatches=wrong, cycles=cycles)


def _int_ref(pack: Pack) -> Row:
    """Compute every tensor anew from the arrays of the pack."""
    reference = IntRef(ModelArgs.from_dict(dict(pack.spec.model)), dict(pack.arrays))
    taps = reference.taps(pack.golden["input"])
    if list(taps) != list(pack.golden):
        raise DataError("the golden vectors of the pack are of other tensors than its network has; export it again")
    wrong = sum(int((taps[name] != codes).sum()) for name, codes in pack.golden.items())
    return Row(name="IntRef, every tensor", of=sum(c.size for c in pack.golden.values()), mismatches=wrong)


def _engines(pack: Pack) -> list[Row]:
    """Forecast with the compiled engine, by each instruction set of this machine."""
    args, want = ModelArgs.from_dict(dict(pack.spec.model)), pack.golden["restore"].astype(np.int64)
    if ABSENT is not None:
        return [Row(name="C++ engine", note=ABSENT)]
    rows = []
    for isa in isas():
        found = IntEngine(args, pack.arrays, isa=isa).codes(pack.golden["input"].astype(np.int64))
        wrong, of = _differ([found], [want])
        rows.append(Row(name=f"C++ engine, {isa}", of=of, mismatches=wrong))
    return rows


def _differ(found: Sequence[Ints], want: Sequence[Ints]) -> tuple[int, int]:
    return sum(int((a != b).sum()) for a, b in zip(found, want, strict=True)), sum(b.size for b in want)


def _hls_network(folder: str, pack: Pack) -> tuple[int, int, None]:
    want = pack.golden["restore"].astype(np.int64)
    return *_differ([predict(folder, pack.golden["input"].astype(np.int64))], [want]), None


def _hls_vectors(count: int) -> tuple[int, int, None]:
    g = np.random.default_rng(11)
    kinds = matrices(g)
    vectors = calls(g, kinds, count)
    want, wrong, of = expected(kinds, vectors), 0, 0
    for i, layer in enumerate(kinds):
        at = [k for k, (j, _) in enumerate(vectors) if j == i]
        if at:
            more = _differ(
                [hls_matvec(layer, np.stack([vectors[k][1] for k in at]))], [np.stack([want[k] for k in at])]
            )
            wrong, of = wrong + more[0], of + more[1]
    x, p, b, c, d, z, given = _scan_vectors(g, count)
    more = _differ([hls_scan(given, x, p, b, c, d, z)], [expected_scan(x, p, b, c, d, z, given)])
    return wrong + more[0], of + more[1], None


def _scan_vectors(g: np.random.Generator, count: int) -> tuple[Any, ...]:
    x, p, b, c, d, z = operands(g, math.ceil(count / (12 * 128)), 12, 128, 16)
    return x, p, b, c, d, z, scan_tables(g)


def _verilog_vectors(count: int, pauses: Pauses) -> tuple[int, int, int]:
    g = np.random.default_rng(12)
    kinds = matrices(g)
    vectors = calls(g, kinds, count)
    first = run_matvec(kinds, vectors, pauses=pauses)
    x, p, b, c, d, z, given = _scan_vectors(g, count)
    second = run_scan(given, x, p, b, c, d, z, pauses=pauses)
    one, two = (
        _differ(first.outputs, expected(kinds, vectors)),
        _differ(second.outputs, list(expected_scan(x, p, b, c, d, z, given))),
    )
    return one[0] + two[0], one[1] + two[1], first.cycles + second.cycles


def _golden_layers(run: Sequence[Layer], pauses: Pauses) -> tuple[int, int, int]:
    vectors = [(i, x) for i, layer in enumerate(run) for x in layer.inputs]
    found = run_matvec([layer.matrix for layer in run], vectors, pauses=pauses)
    return *_differ(found.outputs, [y for layer in run for y in layer.outputs]), found.cycles


def _golden_scans(pack: Pack, pauses: Pauses) -> tuple[int, int, int]:
    wrong = of = cycles = 0
    for scan in scans(pack):
        x, p, b, c, d, z = scan.operands
        found = run_scan(scan.tables, x, p, b, c, d, z, pauses=pauses)
        more = _differ(found.outputs, list(scan.outputs))
        wrong, of, cycles = wrong + more[0], of + more[1], cycles + found.cycles
    return wrong, of, cycles


def _cycles() -> list[Check]:
    """Count products a cycle in steady state, and the cycles of a step of 256 channels, by simulation."""
    g = np.random.default_rng(13)
    layer, vectors = random_matrix(g, _STEP, _STEP), g.integers(-127, 128, (8, _STEP))
    first = [k % 3 == 0 for k in range(8)]
    try:
        array = run_matvec([layer], [(0, x) for x in vectors])
        step = run_slim_step(layer, sigmoid_table(), vectors, first)
    except UnsupportedError:
        return []
    rate = _STEP * _STEP * 7 / int(array.ends[-1] - array.ends[0])
    want = expected_average(layer, sigmoid_table(), vectors, first, 7)
    wrong = _differ(step.outputs, list(want))[0]
    return [
        Check(show="6", name="products a cycle, of 64", value=rate, unit="", rule=">=", bound=60),
        Check(show="6", name="cycles of a 256x256 step", value=int(step.ends[0]), unit="", rule="<=", bound=1_100),
        Check(show="6", name="mismatches of that step", value=wrong, unit="", rule="==", bound=0),
    ]


def _estimate(name: str, windows: int, linear: Row, scanned: Row) -> dict[str, Any] | None:
    """Return what a window takes on a target, by the cycles that were simulated."""
    target = load_target(name)
    if linear.cycles is None or scanned.cycles is None or "clock_hz" not in target.resources:
        return None
    cycles = (linear.cycles + scanned.cycles) / windows
    seconds = cycles / target.resources["clock_hz"]
    power = target.resources.get("power_w")
    return {
        "target": target.name, "clock_hz": target.resources["clock_hz"],
        "linear_cycles": linear.cycles / windows, "scan_cycles": scanned.cycles / windows,
        "latency_s": seconds, "power_w": power, "energy_j": None if power is None else power * seconds,
        "note": "linear layers and scans, one after the other; norms, tables and gates, which are not in Verilog, "
        "and transfers are left out; clock and power are assumptions of the target file",
    }  # fmt: skip


def _cells(run: Sequence[Layer], pack: Pack, name: str, checks: list[Check]) -> dict[str, Any] | None:
    """Count the cells of array and scan for this network, and hold them to the target's."""
    tiles = sum(-(-m.weight.shape[0] // 8) * -(-m.weight.shape[1] // 8) for m in (layer.matrix for layer in run))
    words = sum(-(-m.weight.shape[0] // 8) * 2 for m in (layer.matrix for layer in run))
    widest = max(-(-layer.matrix.weight.shape[1] // 8) for layer in run)
    scan = next(iter(scans(pack)))
    states, channels = scan.operands[2].shape[-1], scan.operands[0].shape[-1]
    blocks = int(pack.spec.model["n_layer"])
    try:
        parts = {
            "sf_matvec": cells("sf_matvec", {"W_DEPTH": tiles, "P_DEPTH": words, "X_DEPTH": max(widest, 2)}),
            "sf_scan": cells("sf_scan", {"STATES": states, "CHANNELS": channels, "SETS": max(blocks, 2)}),
        }
    except (UnsupportedError, MeasurementError) as e:
        return {"note": str(e)}
    total, has = sum(parts.values(), Cells(lut=0, ff=0, dsp=0, bram36=0)), load_target(name).resources
    checks += [
        Check(show="cells", name=f"{kind}, estimated by yosys", value=getattr(total, kind), unit="", rule="<=",
              bound=has[kind])
        for kind in ("lut", "ff", "dsp", "bram36")
    ]  # fmt: skip
    return {**{part: asdict(found) for part, found in parts.items()}, "total": asdict(total)}


def _corruptions(folder: str) -> Check:
    """Spoil copies of the pack; each has to be refused by the name of what is spoilt."""
    refused = 0
    for name in CORRUPTIONS:
        with tempfile.TemporaryDirectory() as place:
            copy = Path(place) / "pack"
            shutil.copytree(folder, copy)
            named = spoil(copy, name)
            try:
                read_pack(copy)
            except DataError as e:
                refused += named in str(e)
    bound = len(CORRUPTIONS)
    return Check(
        show="4", name=f"of {bound} spoilt packs refused by name", value=refused, unit="", rule="==", bound=bound
    )


def _faults() -> Check:
    """Put each fault into the Verilog; the vectors have to find it, and nothing without it."""
    clean = mismatches(None) == 0
    seen = sum(clean and mismatches(change) > 0 for change in FAULTS.values())
    bound = len(FAULTS)
    return Check(show="5", name=f"of {bound} faults of the Verilog found", value=seen, unit="", rule="==", bound=bound)
