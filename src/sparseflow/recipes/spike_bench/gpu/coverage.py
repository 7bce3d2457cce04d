"""SpikingJelly's builders on the GPU, through `benchmarks.coverage` of a checkout."""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.record import StageResult
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

__all__ = ["coverage_checks", "coverage_stage"]

BUILDERS = 25
BOUND = 0.98
SOME = ("CIFAR10Net", "spiking_vgg11_bn")


def coverage_stage(
    config: GpuBenchConfig, budget: Budget, device: torch.device, *, result: StageResult | None = None
) -> StageResult:
    """Run the coverage benchmark in a process of its own and take over its networks.

    Args:
        config: settings.
        budget: time of this stage.
        device: where to run.
        result: where to note what is found as it is found; a new one if None.
    """
    result = StageResult() if result is None else result
    networks: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "coverage.json"
        command = [
            sys.executable, "-m", "benchmarks.coverage", "--device", device.type, "--out", str(out),
            "--precision", config.precision, "--budget", f"{max(1.0, budget.left() - 15):.0f}",
        ]  # fmt: skip
        if config.part:
            command += ["--part", config.part]
            result.parts.append(config.part)
        for name in SOME if config.quick else ():
            command += ["--only", name]
        if config.quick or device.type != "cuda":
            command += ["--repeats", "3", "--jobs", "1", "--no-compile"]
        try:
            if importlib.util.find_spec("benchmarks") is None:
                raise FileNotFoundError("there is no benchmarks.coverage; run from the root of a checkout")
            done = subprocess.run(command, capture_output=True, text=True, timeout=budget.left() + 20, check=False)
            sys.stderr.write(done.stderr[-20_000:])
            if not out.exists():
                raise RuntimeError(f"status {done.returncode}: {(done.stderr or done.stdout)[-1500:]}")
        except (OSError, RuntimeError, subprocess.SubprocessError) as e:
            result.errors["coverage"] = f"{type(e).__name__}: {e}"[:1800]
        if out.exists():
            body = json.loads(out.read_text(encoding="utf-8"))
            networks = body["networks"]
            result.details |= {k: body.get(k) for k in ("weights", "environment", "not_tried")}
            result.errors |= body.get("not_tried") or {}
    result.rows = networks
    result.details["compiled_rivals"] = sum(bool(r.get("compiled")) for r in networks)
    result.details["called"] = [str(r["name"]) for r in networks if r.get("timing") == "calls"]
    result.checks += coverage_checks(networks)
    return result


def coverage_checks(networks: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Return the checks of the builders that were tried.

    Args:
        networks: rows of `benchmarks.coverage`.
    """
    ratios = [float(r["ratio"]) for r in networks if r.get("ratio") is not None]
    failed = sum(r.get("outcome") == "failed" for r in networks)
    return [
        Check(show="5", name=name, value=value, unit=unit, rule=rule, bound=bound)
        for name, value, unit, rule, bound in (
            ("SpikingJelly builders timed on the GPU", len(ratios), "networks", ">=", BUILDERS),
            ("builders that neither work nor are refused with a reason", failed, "networks", "==", 0),
            ("slowest builder over the best dense", min(ratios, default=math.nan), "x", ">=", BOUND),
        )
    ]
