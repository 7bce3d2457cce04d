"""A pack checked from all sides: hashes, IntRef, engine, HLS C++, Verilog on its golden vectors and random ones."""

import ast
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError, DataError, UnsupportedError
from sparseflow.export.fpga import Pauses
from sparseflow.export.fpga.corrupt import CORRUPTIONS, spoil
from sparseflow.export.fpga.faults import FAULTS, mismatches
from sparseflow.export.fpga.network import layers
from sparseflow.export.fpga.pack import read_pack
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.forecast.estimate import latency, resources, steady_state
from sparseflow.recipes.forecast.rows import Row, draw, engine_rows, hls_rows, reference_row, verilog_rows
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["VerifyConfig", "verify"]

_READER_S = 300
_READER_LINES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyConfig:
    """What is checked.

    Args:
        pack: folder of the pack.
        target: file or name of the device for the estimate.
        vectors: random and edge vectors of linear layers, and as many steps of scans; 0 for none.
        pauses: percent of cycles in which ports pause, on both sides.
        cells: count cells with yosys, which takes a minute.
        corruptions: spoil copies of the pack, and see each refused.
        faults: put faults into the Verilog, and see each found.
        reader: program that reads the pack with NumPy alone and leaves with 1 if a tensor differs, as
            `examples/read_pack.py`; None for none.
        out: file for the JSON; None for none.

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
    reader: str | None = None
    out: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.vectors < 0:
            raise ConfigError(f"vectors is {self.vectors}; expected 0 or more")
        Pauses(inputs=self.pauses, outputs=self.pauses)


def verify(config: VerifyConfig, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Check a pack.

    Args:
        config: what is checked.
        say: called with what begins.

    Returns:
        `rows` of the table; `edges`, how often the vectors meet what is special; `estimate` of cycles, seconds and
        joules a window; `cells` and what the target has; `faults` with the mismatches of each; and `checks`.

    Raises:
        DataError: the pack is damaged; names the array.
        ConfigError: the target or the reader is unknown.
    """
    if config.out is not None:
        prepare_folder(Path(config.out).parent)
    say("hashes and IntRef")
    pack = read_pack(config.pack)
    rows = [Row(name="hashes", of=len(pack.arrays) + len(pack.golden) + len(pack.files), mismatches=0)]
    rows.append(reference_row(pack))
    drawn = draw(config.vectors) if config.vectors else None
    rows += engine_rows(pack, drawn)
    say("HLS C++")
    rows += hls_rows(config.pack, pack, drawn)
    say("Verilog")
    run = list(layers(pack))
    simulated = verilog_rows(run, pack, drawn, Pauses(inputs=config.pauses, outputs=config.pauses))
    rows += simulated
    checks, edges = _tally(rows), drawn.edges if drawn is not None else {}
    if drawn is not None:
        checks.append(_edges(edges))
    say("cycles")
    checks += steady_state()
    linear, scanned = (row.cycles for row in simulated[:2])
    windows, estimate = len(pack.golden["input"]), None
    if linear is not None and scanned is not None:
        estimate = latency(config.target, linear / windows, scanned / windows)
    if config.reader is not None:
        checks += _read(config.reader, config.pack)
    if config.corruptions:
        checks.append(_corruptions(config.pack))
    found: dict[str, int] = {}
    if config.faults:
        say("faults put into the Verilog")
        found, more = _faults()
        checks += more
    taken = None
    if config.cells:
        say("cells")
        taken, more = resources(run, pack, config.target)
        checks += more
    body = {
        "pack": config.pack, "settings": asdict(config), "qspec": pack.spec.digest, "rows": [asdict(r) for r in rows],
        "edges": edges, "estimate": estimate, "cells": taken, "faults": found, "environment": describe(),
        **checks_body(checks),
    }  # fmt: skip
    if config.out is not None:
        write_atomic(config.out, json.dumps(body, indent=1, allow_nan=False))
    return body


def _tally(rows: list[Row]) -> list[Check]:
    wrong = sum(row.mismatches or 0 for row in rows)
    missing = sum(row.mismatches is None for row in rows)
    return [
        Check(show="1", name="mismatches", value=wrong, unit="", rule="==", bound=0),
        Check(show="1", name="rows that could not run", value=missing, unit="", rule="==", bound=0),
    ]


def _edges(edges: dict[str, dict[str, int]]) -> Check:
    """Hold the vectors to meeting every kind of edge, since a comparison that misses one proves nothing of it."""
    counts = [count for found in edges.values() for count in found.values()]
    name = f"of {len(counts)} kinds of edges met by the vectors"
    return Check(show="1", name=name, value=sum(c > 0 for c in counts), unit="", rule="==", bound=len(counts))


def _read(reader: str, folder: str) -> list[Check]:
    """Run an independent reader on a pack, and hold it to being short and to importing nothing but NumPy."""
    try:
        text = Path(reader).read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, SyntaxError) as e:
        raise ConfigError(f"the reader {reader} cannot be read: {e}") from e
    imported: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or ".").split(".")[0])
    other = imported - {"numpy"} - set(sys.stdlib_module_names)
    command = [sys.executable, "-I", reader, str(Path(folder).resolve())]
    try:
        left = subprocess.run(command, capture_output=True, timeout=_READER_S, check=False).returncode
    except subprocess.TimeoutExpired:
        left = -1
    lines = len(text.splitlines())
    return [
        Check(show="4", name="exit of an independent reader, golden vectors", value=left, unit="", rule="==", bound=0),
        Check(show="4", name="lines of that reader", value=lines, unit="", rule="<=", bound=_READER_LINES),
        Check(show="4", name="packages it imports besides NumPy", value=len(other), unit="", rule="==", bound=0),
    ]


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


def _faults() -> tuple[dict[str, int], list[Check]]:
    """Put each fault into the Verilog; the vectors have to find it, and nothing without it."""
    bound = len(FAULTS)
    try:
        clean = mismatches(None)
        found = {name: mismatches(change) for name, change in FAULTS.items()}
    except UnsupportedError:
        clean, found = 1, {}
    seen = sum(count > 0 for count in found.values())
    return found, [
        Check(show="5", name="mismatches without a fault", value=clean, unit="", rule="==", bound=0),
        Check(show="5", name=f"of {bound} faults of the Verilog found", value=seen, unit="", rule="==", bound=bound),
    ]
