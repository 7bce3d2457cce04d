"""Verilog run by Verilator, in a child process with limits: words into memories, beats in, beats out."""

import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.export.fpga.child import FLAGS, Limits, compiled, compiler, run, sections
from sparseflow.ir.env import cache_folder

__all__ = ["BENCH", "RTL", "Design", "Pauses", "Simulation", "build", "simulate", "sources", "verilator"]

RTL = Path(__file__).parent / "rtl"
BENCH = Path(__file__).parent / "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Random pauses at the ports.

    Args:
        inputs: percent of cycles in which no new beat is offered.
        outputs: percent of cycles in which no beat is taken.
        seed: of the pauses.
    """

    inputs: int = 0
    outputs: int = 0
    seed: int = 1

    def __post_init__(self) -> None:
        if not (0 <= self.inputs < 100 and 0 <= self.outputs < 100):
            raise ConfigError("pauses are shares of cycles, from 0 to 99 percent")


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """A top module to simulate.

    Args:
        top: its name; the bench of that name drives it.
        parameters: of the module.
        widths: bytes of its pins, for the bench.
        changes: texts of the sources to replace, each (file, old, new); `old` occurs exactly once. For experiments,
            as faults that a test has to find.
    """

    top: str
    parameters: Mapping[str, int]
    widths: Mapping[str, int] = field(default_factory=dict)
    changes: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Simulation:
    """What came out.

    Args:
        beats: bytes of each beat, `[n, bytes]`.
        at: the cycle in which each was taken, `[n]`.
        first: the cycle in which the first beat went in.
    """

    beats: NDArray[np.uint8]
    at: NDArray[np.uint64]
    first: int

    @property
    def cycles(self) -> int:
        """Cycles from the first beat in to the last beat out, both counted."""
        return int(self.at[-1]) - self.first + 1 if len(self.at) else 0


def verilator() -> str:
    """Return the path of Verilator.

    Raises:
        UnsupportedError: it is not installed.
    """
    found = shutil.which("verilator")
    if found is None:
        raise UnsupportedError("Verilator is not installed; `apt-get install verilator` brings it on Debian and Ubuntu")
    return found


def sources(changes: Sequence[tuple[str, str, str]] = ()) -> dict[str, str]:
    """Return the Verilog by file name, with some texts replaced.

    Raises:
        ConfigError: a text to replace does not occur exactly once.
    """
    texts = {path.name: path.read_text(encoding="utf-8") for path in sorted(RTL.glob("*.sv"))}
    for file, old, new in changes:
        if texts.get(file, "").count(old) != 1:
            raise ConfigError(f"{old!r} is not exactly once in {file}; name a text that is")
        texts[file] = texts[file].replace(old, new)
    return texts


def build(design: Design, limits: Limits | None = None) -> Path:
    """Return the program that simulates a design; made once for equal sources, then found in the cache.

    Raises:
        UnsupportedError: Verilator or a C++ compiler is missing.
        MeasurementError: the Verilog or the bench does not compile; has the messages.
    """
    limits, tool = limits or Limits(), verilator()
    texts = sources(design.changes)
    bench = {name: (BENCH / name).read_bytes() for name in ("harness.hpp", "sections.hpp", f"{design.top}.cpp")}
    root = run([tool, "--getenv", "VERILATOR_ROOT"], limits).strip()
    key = hashlib.sha256(
        repr((texts, bench, sorted(design.parameters.items()), sorted(design.widths.items()), root, FLAGS)).encode()
        + run([tool, "--version"], limits).encode()
    ).hexdigest()[:24]
    folder = cache_folder() / "verilated"
    program = folder / key
    if program.is_file():
        return program
    folder.mkdir(parents=True, exist_ok=True)
    include = [f"-I{root}/include", f"-I{root}/include/vltstd", f"-I{BENCH}"]
    runtime = [
        compiled(Path(root) / "include" / f"{name}.cpp", b"", folder, include, limits)
        for name in ("verilated", "verilated_threads")
    ]
    with tempfile.TemporaryDirectory(dir=folder) as place:
        work = Path(place)
        for name, text in texts.items():
            (work / name).write_text(text, encoding="utf-8")
        settings = [f"-G{name}={value}" for name, value in design.parameters.items()]
        # A fault put in on purpose may leave signals unused or of another width.
        warnings = ["-Wno-fatal", "-Wno-lint"] if design.changes else ["-Wall", "-Wno-UNUSEDSIGNAL"]
        command = [tool, "--cc", "-O3", "--x-assign", "unique", "--x-initial", "unique", *warnings]
        command += ["--Mdir", place, "-y", place, "--top-module", design.top, *settings, str(work / f"{design.top}.sv")]
        run(command, limits)
        model = "".join(f'#include "{path.name}"\n' for path in sorted(work.glob("V*.cpp")))
        (work / "model.cpp").write_text(model, encoding="utf-8")
        defines = [f"-D{name}={value}" for name, value in design.widths.items()]
        # The bench sees nothing of the model but its header, which the faults of a test leave as it is.
        header = (work / f"V{design.top}.h").read_bytes() + bench["harness.hpp"] + bench["sections.hpp"]
        driver = compiled(BENCH / f"{design.top}.cpp", header, folder, [*defines, f"-I{place}", *include], limits)
        output, model_flags = work / "program", [*FLAGS, f"-I{place}", *include, str(work / "model.cpp")]
        run([compiler(), *model_flags, driver, *runtime, "-pthread", "-o", str(output)], limits)
        os.replace(output, program)
    return program


def simulate(
    design: Design,
    given: Mapping[str, NDArray[np.uint8]],
    expect: int,
    *,
    pauses: Pauses | None = None,
    limits: Limits | None = None,
) -> Simulation:
    """Run a design until a number of beats came out.

    Args:
        design: what runs.
        given: by the name of a memory or stream, its words or beats, `[n, bytes]`.
        expect: beats that come out.
        pauses: none if None.
        limits: of the child process.

    Raises:
        UnsupportedError: Verilator or a C++ compiler is missing.
        MeasurementError: it does not compile, is stuck, says more than expected, or breaks the handshake: an output
            that is not taken must stay.
    """
    pauses, limits = pauses or Pauses(), limits or Limits()
    program = build(design, limits)
    with tempfile.TemporaryDirectory() as place:
        stimuli, results = Path(place) / "stimuli", Path(place) / "results"
        stimuli.write_bytes(sections({**given, "expect": np.array([[expect]], "<u4").view(np.uint8)}))
        shares = [str(pauses.inputs), str(pauses.outputs), str(pauses.seed), str(limits.cycles)]
        run([str(program), str(stimuli), str(results), *shares], limits)
        data = results.read_bytes()
    _, first, count, width = struct.unpack_from("<QQII", data)
    beats = np.frombuffer(data, np.uint8, count * width, 24).reshape(count, width)
    return Simulation(beats=beats, at=np.frombuffer(data, "<u8", count, 24 + count * width), first=first)
