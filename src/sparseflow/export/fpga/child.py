"""Compilers and simulators as child processes with limits of time and memory; what they make is kept in the cache."""

import hashlib
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.ir.env import cxx

__all__ = ["FLAGS", "Limits", "compiled", "compiler", "run", "sections"]

FLAGS = ("-std=c++17", "-O1", "-faligned-new", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TRACE=0", "-w")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child process may take.

    Args:
        seconds: of processor time, and on the clock.
        memory_bytes: of addresses.
        cycles: of a simulation, after which it counts as stuck.
    """

    seconds: int = 300
    memory_bytes: int = 4 * 2**30
    cycles: int = 100_000_000

    def __post_init__(self) -> None:
        if min(self.seconds, self.memory_bytes, self.cycles) < 1:
            raise ConfigError("a limit of a simulation is below 1; give positive ones")


def compiler() -> str:
    """Return the C++ compiler of this machine.

    Raises:
        UnsupportedError: there is none.
    """
    found = cxx() or shutil.which("g++") or shutil.which("c++")
    if not found:
        raise UnsupportedError("no C++ compiler; install g++, or name one in CXX")
    return found


def sections(arrays: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """Return the bytes of a file that `bench/sections.hpp` reads: `[beats, bytes]` by name."""
    parts = []
    for name, beats in arrays.items():
        parts.append(struct.pack("<8sII", name.encode(), len(beats), beats.shape[1]))
        parts.append(np.ascontiguousarray(beats, np.uint8).tobytes())
    return b"".join(parts)


def compiled(source: Path, more: bytes, folder: Path, flags: Sequence[str], limits: Limits) -> str:
    """Compile a source once for equal texts; `more` is what it depends on besides. Return the object file."""
    named = [flag for flag in flags if flag.startswith("-D")]
    stamp = hashlib.sha256(source.read_bytes() + more + repr((compiler(), FLAGS, named)).encode()).hexdigest()[:24]
    target = folder / f"{source.stem}-{stamp}.o"
    if not target.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            part = str(Path(place) / "part.o")
            run([compiler(), *FLAGS, *flags, "-c", str(source), "-o", part], limits)
            os.replace(part, target)
    return str(target)


def run(command: Sequence[str], limits: Limits) -> str:
    """Run a child process with limits of time and memory; return what it printed."""
    shell = 'ulimit -t "$1"; ulimit -v "$2"; shift 2; exec "$@"'
    bounds = [str(limits.seconds), str(limits.memory_bytes // 1024)]
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", shell, "sh", *bounds, *command],
            capture_output=True, text=True, timeout=limits.seconds, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as e:
        raise MeasurementError(f"{name} took more than {limits.seconds} s; raise the limit") from e
    if done.returncode:
        last = "\n".join(re.split(r"\n", (done.stderr or done.stdout).strip())[-12:])
        raise MeasurementError(f"{name} ended with {done.returncode}: {last or 'no message; a limit may be too low'}")
    return done.stdout
