"""What the hardware of a pack takes on a target: cycles by simulation, cells by yosys."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from sparseflow.errors import MeasurementError, UnsupportedError
from sparseflow.export.fpga import run_matvec, run_slim_step
from sparseflow.export.fpga.network import Layer, scans
from sparseflow.export.fpga.pack import Pack
from sparseflow.export.fpga.synthesis import Cells, cells
from sparseflow.export.fpga.vectors import expected_average, random_matrix, sigmoid_table
from sparseflow.hardware import load_target
from sparseflow.recipes.checks import Check

__all__ = ["latency", "resources", "steady_state"]

_STEP = 256
_KINDS = {"lut": "LUT", "ff": "flip-flops", "dsp": "DSP", "bram36": "BRAM36"}


def steady_state() -> list[Check]:
    """Count products a cycle in steady state, and the cycles of a step of 256 channels, by simulation.

    Returns:
        The checks; none where Verilator is not installed.
    """
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
    wrong = sum(int((a != b).sum()) for a, b in zip(step.outputs, want, strict=True))
    return [
        Check(show="6", name="products a cycle, of 64", value=rate, unit="", rule=">=", bound=60),
        Check(show="6", name="cycles of a 256x256 step", value=int(step.ends[0]), unit="", rule="<=", bound=1_100),
        Check(show="6", name="mismatches of that step", value=wrong, unit="", rule="==", bound=0),
    ]


def latency(name: str, linear_cycles: float, scan_cycles: float) -> dict[str, Any] | None:
    """Return what a window takes on a target.

    latency = (linear_cycles + scan_cycles) / clock, one unit after the other; energy = power · latency.

    Args:
        name: of the target, or its file.
        linear_cycles: of all linear layers of a window, simulated.
        scan_cycles: of all its scans.

    Returns:
        Seconds, joules and what is assumed; None where the target has no clock.

    Raises:
        ConfigError: the target is unknown.
    """
    target = load_target(name)
    if "clock_hz" not in target.resources:
        return None
    clock, power = target.resources["clock_hz"], target.resources.get("power_w")
    seconds = (linear_cycles + scan_cycles) / clock
    return {
        "target": target.name, "clock_hz": clock, "linear_cycles": linear_cycles, "scan_cycles": scan_cycles,
        "latency_s": seconds, "power_w": power, "energy_j": None if power is None else power * seconds,
        "note": "linear layers and scans, one after the other; norms, tables and gates, which are not in Verilog, "
        "and transfers are left out; clock and power are assumptions of the target file",
    }  # fmt: skip


def resources(run: Sequence[Layer], pack: Pack, name: str) -> tuple[dict[str, Any], list[Check]]:
    """Count the cells of array and scan for a network, by yosys, and hold them to what a target has.

    Args:
        run: the linear layers, whose weights all lie on the chip.
        pack: of the network.
        name: of the target, or its file.

    Returns:
        Cells of each module, their sum, what the target has and the tool; and the checks. Where yosys is missing or
        fails, a `note` that says so, and no check.

    Raises:
        ConfigError: the target is unknown.
    """
    tiles = sum(-(-m.weight.shape[0] // 8) * -(-m.weight.shape[1] // 8) for m in (layer.matrix for layer in run))
    words = sum(-(-m.weight.shape[0] // 8) * 2 for m in (layer.matrix for layer in run))
    widest = max(-(-layer.matrix.weight.shape[1] // 8) for layer in run)
    scan = next(iter(scans(pack)))
    states, channels = scan.operands[2].shape[-1], scan.operands[0].shape[-1]
    blocks = int(pack.spec.model["n_layer"])
    target = load_target(name)
    try:
        parts = {
            "sf_matvec": cells("sf_matvec", {"W_DEPTH": tiles, "P_DEPTH": words, "X_DEPTH": max(widest, 2)}),
            "sf_scan": cells("sf_scan", {"STATES": states, "CHANNELS": channels, "SETS": max(blocks, 2)}),
        }
    except (UnsupportedError, MeasurementError) as e:
        return {"note": str(e)}, []
    total = sum(parts.values(), Cells(lut=0, ff=0, dsp=0, bram36=0))
    has = {kind: target.resources[kind] for kind in _KINDS if kind in target.resources}
    checks = [
        Check(show="cells", name=f"{_KINDS[kind]}, an open-tool estimate", value=getattr(total, kind), unit="",
              rule="<=", bound=most)
        for kind, most in has.items()
    ]  # fmt: skip
    return {
        "tool": "yosys, an open-tool estimate; no statement of the vendor's tools", "target": target.name, "has": has,
        **{part: asdict(found) for part, found in parts.items()}, "total": asdict(total),
    }, checks  # fmt: skip
