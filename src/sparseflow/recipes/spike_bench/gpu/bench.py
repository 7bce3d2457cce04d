"""`sparseflow spike bench --target h200`: all stages, one record."""

import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.blocks import blocks_stage
from sparseflow.recipes.spike_bench.gpu.correct import correct_stage
from sparseflow.recipes.spike_bench.gpu.coverage import coverage_stage
from sparseflow.recipes.spike_bench.gpu.memory import memory_stage
from sparseflow.recipes.spike_bench.gpu.network import network_stage
from sparseflow.recipes.spike_bench.gpu.record import Enough, Record, StageResult
from sparseflow.recipes.spike_bench.gpu.seed import seed_stage
from sparseflow.recipes.spike_bench.gpu.settings import (
    PROTOCOL,
    SHARES,
    STAGES,
    Budget,
    GpuBenchConfig,
    device_name,
    versions,
)
from sparseflow.recipes.spike_bench.gpu.sources import present
from sparseflow.report.environment import describe

__all__ = ["RUNNERS", "bench_gpu"]

Stage = Callable[..., StageResult]
RUNNERS: dict[str, Stage] = {
    "blocks": blocks_stage,
    "seed": seed_stage,
    "correct": correct_stage,
    "memory": memory_stage,
    "network": network_stage,
    "coverage": coverage_stage,
}


def bench_gpu(config: GpuBenchConfig, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run the stages of a call and return the record.

    A stage that breaks fails a check of its own and leaves the others alone;
    the file is written after every stage, and with what is known when the call
    is interrupted. Earlier stages in the file are kept,
    so several calls make one record.

    Args:
        config: what to measure.
        say: told what happens, one line a time.

    Returns:
        `{"checks": [...], "ok": ..., "stages": {...}, ...}`; "ok" only if every
        stage has run and every check holds.

    Raises:
        ConfigError: the device is not the target, or the file is of another device.
        DataError: the file cannot be read or written.
    """
    device = torch.device(config.device)
    name = _device(config, device)
    started = Budget(config.budget_s)
    record = Record(
        config.out,
        {
            "bench": "spike-gpu",
            "target": config.target,
            "device": name,
            "quick": config.quick,
            "commit": config.commit,
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "protocol": PROTOCOL,
            "config": asdict(config),
            "environment": describe() | ({"Commit": config.commit} if config.commit else {}),
            "versions": versions(),
        },
    )
    stages = config.stages
    sources = present(stages)
    if config.warm and device.type == "cuda" and not config.quick:
        from sparseflow.recipes.spike_bench.gpu.warm import warm

        say(warm(config, started.share(2, 5)))
    for i, stage in enumerate(stages):
        rest = sum(SHARES[s] for s in stages[i:])
        began, result, stopped = time.perf_counter(), StageResult(), False
        try:
            RUNNERS[stage](config, started.share(SHARES[stage], rest), device, result=result)
        except Enough as e:
            stopped = True
            result.errors[stage] = str(e)
        except (Exception, KeyboardInterrupt) as e:
            stopped = isinstance(e, KeyboardInterrupt)
            result.errors |= {stage: f"{type(e).__name__}: {e}", "trace": traceback.format_exc()[-3000:]}
            name = f"stage {stage} ran to its end"
            result.checks.append(Check(show="all", name=name, value=0, unit="runs", rule=">=", bound=1))
        wall = time.perf_counter() - began
        record.add(stage, result, wall)
        record.stages[stage]["sources"] = sources.get(stage, {})
        record.write()
        held = sum(c.ok for c in result.checks)
        say(f"{stage}: {held} of {len(result.checks)} checks hold, {len(result.errors)} errors, {wall:.0f} s")
        for where, what in result.errors.items():
            say(f"  {where}: {what}")
        if stopped:
            raise KeyboardInterrupt
        _tidy(device)
    return record.body(expected=STAGES)


def _device(config: GpuBenchConfig, device: torch.device) -> str:
    if device.type == "cpu":
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(f"target {config.target} needs a CUDA device, and torch sees none")
    torch.cuda.init()  # type: ignore[no-untyped-call]
    name = device_name(device)
    if config.target not in name.lower():
        raise ConfigError(f"target is {config.target!r}, but the device is {name!r}")
    return name


def _tidy(device: torch.device) -> None:
    torch._dynamo.reset()
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
        except RuntimeError:
            # A broken context breaks the next stage too, which says so in its own errors.
            return
