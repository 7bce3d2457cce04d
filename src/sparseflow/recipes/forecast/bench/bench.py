"""`sparseflow forecast bench`: the figures of the scan and of the network, from one command."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.device import device_of
from sparseflow.recipes.forecast.bench import rival
from sparseflow.recipes.forecast.bench.integers import integer_checks
from sparseflow.recipes.forecast.bench.network import network_checks
from sparseflow.recipes.forecast.bench.scan import FORMS, SHAPES, scan_errors, scan_speed
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

__all__ = ["SUITES", "ForecastBenchConfig", "bench"]

SUITES = ("errors", "speed", "network", "int8")
PROTOCOL = (
    "Both sides run in one process and in interleaved rounds, with the same operands; a ratio is the median of the "
    "ratios of the rounds. Scans are timed forwards and backwards with the gradients of all operands, mambapy's with "
    "the same softplus, direct term and gate around it; a row compares both sides in one form, and the target is held "
    "against the best form of each side. Memory is the most that one plain call adds. The network has the sizes of "
    "ETTh1-96 and no dropout; the plain side is the faster of two scans. Integers and their rivals run in blocks of "
    "calls, each after a rest, since threads of onnxruntime spin on."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastBenchConfig:
    """What to measure.

    Args:
        device: "cpu", "cuda" or "auto".
        suites: any of "errors", of the scan against float64; "speed", of the scan against mambapy, on a GPU; and
            "network", against plain torch, on a CPU; "int8", integers against float32, on a CPU, only where it is
            named; empty for all others of the device.
        shapes: sequences and steps of the timed scans.
        forms: how the scans are called: "eager", "graph", "compiled".
        threads: of the network, each count measured in turn.
        repeats: rounds of a measurement.
        compile: whether torch.compile takes part where plain torch runs on the CPU.
        out: file for the JSON, or None.

    Raises:
        ConfigError: an unknown suite or form, a suite of another device, or a count below 1.
    """

    device: str = "auto"
    suites: tuple[str, ...] = ()
    shapes: tuple[tuple[int, int], ...] = SHAPES
    forms: tuple[str, ...] = FORMS
    threads: tuple[int, ...] = (2, 1)
    repeats: int = 20
    compile: bool = True
    out: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        for name, known in (("suites", SUITES), ("forms", FORMS)):
            if unknown := set(getattr(self, name)) - set(known):
                raise ConfigError(f"{name} has {', '.join(sorted(unknown))}; expected some of {', '.join(known)}")
        if not self.forms or not self.shapes:
            raise ConfigError("forms and shapes are the scans to time; name at least one of each")
        if not self.threads or min(self.threads) < 1 or self.repeats < 1:
            raise ConfigError(f"threads is {self.threads} and repeats {self.repeats}; expected numbers of at least 1")


def bench(config: ForecastBenchConfig, *, progress: bool = True) -> dict[str, Any]:
    """Measure and hold every figure against its target.

    Args:
        config: what to measure.
        progress: show progress bars.

    Returns:
        `{"checks": [...], "ok": ..., "errors": [...], "speed": [...], "networks": [...], ...}`.

    Raises:
        ConfigError: no such device, or a suite that it does not run.
    """
    began = time.perf_counter()
    device = device_of(config.device)
    kind = device.type
    able = ("errors", "speed") if kind == "cuda" else ("errors", "network", "int8")
    suites = config.suites or tuple(name for name in able if name != "int8")
    if other := set(suites) - set(able):
        raise ConfigError(f"{', '.join(sorted(other))} does not run on {kind}; there are {', '.join(able)}")
    if config.out is not None:
        prepare_folder(Path(config.out).parent)
    checks: list[Check] = []
    found: dict[str, list[Any]] = {"errors": [], "speed": [], "networks": [], "integers": []}
    if "errors" in suites:
        more, errors = scan_errors(kind, progress=progress)
        checks, found["errors"] = checks + more, [asdict(row) for row in errors]
    if "speed" in suites:
        more, speed = scan_speed(config.shapes, config.forms, repeats=config.repeats, progress=progress)
        checks, found["speed"] = checks + more, [row.to_dict() for row in speed]
    if "network" in suites:
        more, networks = network_checks(
            config.threads, repeats=config.repeats, compile=config.compile, progress=progress
        )
        checks, found["networks"] = checks + more, [row.to_dict() for row in networks]
    if "int8" in suites:
        more, integers = integer_checks(
            config.threads, repeats=config.repeats, compile=config.compile, progress=progress
        )
        checks, found["integers"] = checks + more, [row.to_dict() for row in integers]
    body = checks_body(
        checks, bench="forecast", protocol=PROTOCOL, config=asdict(config), device=kind,
        rival=f"mambapy {rival.VERSION}", environment=describe(), **found, wall_s=time.perf_counter() - began,
    )  # fmt: skip
    if config.out is not None:
        write_atomic(config.out, json.dumps(body, indent=1, allow_nan=False))
    return body
