"""Cells that yosys finds for a design: an estimate of open tools, not a result of the vendor's."""

import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sparseflow.errors import ConfigError, MeasurementError, UnsupportedError
from sparseflow.export.fpga.child import Limits, run
from sparseflow.export.fpga.simulate import sources

__all__ = ["Cells", "cells", "count"]

# A memory of 32 words by 16 bits takes eight LUTs, one of 64 by 8 as many.
_LUTS = {**{f"LUT{n}": 1 for n in range(1, 7)}, "SRL16E": 1, "SRLC32E": 1, "RAM32M16": 8, "RAM64M8": 8, "RAM32M": 4,
         "RAM64M": 4, "RAM128X1D": 4, "RAM256X1D": 8, "RAM64X1D": 2, "RAM32X1D": 2}  # fmt: skip
_FLIP_FLOPS = ("FDRE", "FDSE", "FDCE", "FDPE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cells:
    """What a design takes.

    Args:
        lut: look-up tables, those of small memories and shift registers among them.
        ff: flip-flops.
        dsp: multipliers.
        bram36: blocks of 36 Kb; a block of 18 Kb counts half.
    """

    lut: int
    ff: int
    dsp: int
    bram36: float

    def __add__(self, other: "Cells") -> "Cells":
        """Return the cells of both."""
        return Cells(
            lut=self.lut + other.lut, ff=self.ff + other.ff, dsp=self.dsp + other.dsp, bram36=self.bram36 + other.bram36
        )


def cells(top: str, parameters: Mapping[str, int] | None = None, limits: Limits | None = None) -> Cells:
    """Return what yosys' `synth_xilinx` for UltraScale+ makes of a module; takes about half a minute.

    Args:
        top: name of the module.
        parameters: of it.
        limits: of the child process.

    Raises:
        UnsupportedError: yosys is not installed.
        MeasurementError: it fails.
        ConfigError: the module has no such parameter.
    """
    tool = shutil.which("yosys")
    if tool is None:
        raise UnsupportedError("yosys is not installed; `apt-get install yosys` brings it on Debian and Ubuntu")
    with tempfile.TemporaryDirectory() as place:
        texts = sources()
        # yosys 0.23 fails an assertion when it is given parameters of a module that has more of them.
        for name, value in (parameters or {}).items():
            texts[f"{top}.sv"] = _set(texts[f"{top}.sv"], name, value)
        for name, text in texts.items():
            (Path(place) / name).write_text(text, encoding="utf-8")
        report = Path(place) / "report"
        script = [
            f"read_verilog -sv -defer {place}/*.sv", f"hierarchy -top {top}",
            f"synth_xilinx -family xcup -noiopad -flatten -top {top}",
            f"tee -q -o {report} stat",
        ]  # fmt: skip
        run([tool, "-q", "-p", "; ".join(script)], limits or Limits(seconds=900))
        return count(report.read_text(encoding="utf-8"))


def _set(text: str, name: str, value: int) -> str:
    """Give a parameter another default."""
    changed, times = re.subn(rf"(parameter int {name} = )\d+", rf"\g<1>{value}", text)
    if times != 1:
        raise ConfigError(f"the module has no parameter {name!r} with a number as its default")
    return changed


def count(report: str) -> Cells:
    r"""Return the cells of a report of yosys' `stat`.

    Raises:
        MeasurementError: it lists no cell.

    >>> count("  Number of cells:  3\n     DSP48E2      2\n     LUT3       1\n")
    Cells(lut=1, ff=0, dsp=2, bram36=0.0)
    """
    found = {name: int(number) for name, number in re.findall(r"^ +([A-Z][A-Z0-9]+) +(\d+)$", report, re.MULTILINE)}
    if not found:
        raise MeasurementError("yosys listed no cells; see whether its version knows `synth_xilinx -family xcup`")
    return Cells(
        lut=sum(_LUTS.get(name, 0) * number for name, number in found.items()),
        ff=sum(found.get(name, 0) for name in _FLIP_FLOPS),
        dsp=found.get("DSP48E2", 0),
        bram36=found.get("RAMB36E2", 0) + found.get("RAMB18E2", 0) / 2,
    )
