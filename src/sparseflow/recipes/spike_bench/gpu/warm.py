"""Compile the rivals in parallel processes, so that the bench itself finds them in inductor's cache.

Only code is taken over: what a process learnt by timing kernels while others
used the device is deleted again, so that no rival is tuned on a busy device.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparseflow.ir.env import inherited
from sparseflow.nn import models
from sparseflow.recipes.spike_bench.gpu.blocks import CASES, BlockCase, make_block, spikes
from sparseflow.recipes.spike_bench.gpu.dense import DenseBlock, plain_network
from sparseflow.recipes.spike_bench.gpu.nets import CLAIMS, load_trained
from sparseflow.recipes.spike_bench.gpu.network import BATCHES
from sparseflow.recipes.spike_bench.gpu.rivals import Dense, Variant, prepare
from sparseflow.recipes.spike_bench.gpu.seed import SEED_CASES
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, fast_dense

__all__ = ["deal", "dense_of", "jobs", "run_jobs", "warm"]

Job = dict[str, Any]
PAIRS = tuple((d, k) for d in ("fp16", "bf16", "tf32") for k in ("channels_last", "nchw"))


def jobs(config: GpuBenchConfig) -> list[Job]:
    """Return what the stages of a call will compile in inductor's default mode, the longest first."""
    found: list[Job] = []
    if "network" in config.stages:
        claims = [{"kind": "network", "builder": c.builder} for c in reversed(CLAIMS)]
        trained = [{"kind": "network", "checkpoint": path} for path in config.checkpoints]
        found += [
            {**net, "batch": batch, "dtype": d, "layout": k}
            for batch in BATCHES
            for net in (*claims, *trained)
            for d, k in PAIRS
        ]
    if "blocks" in config.stages:
        found += [{"kind": "block", "case": asdict(c), "dtype": d, "layout": k} for c in CASES for d, k in PAIRS]
    if "seed" in config.stages:
        cases = {c.case().shape: c.case() for c in SEED_CASES}.values()
        found += [
            {"kind": "block", "case": asdict(c), "dtype": d, "layout": k}
            for c in cases
            for d, k in PAIRS
            if d == "bf16"
        ]
    return found


def dense_of(job: Job, device: torch.device) -> Dense:
    """Return the forward of a job; its weights do not matter."""
    if job["kind"] == "block":
        case = BlockCase(**job["case"])
        block = make_block(case, 0, device)
        return Dense(module=DenseBlock(block.folded, block.params, case.steps), inputs=[spikes(case, 0.1, 0, device)])
    model: nn.Module
    if "checkpoint" in job:
        net = load_trained(job["checkpoint"], job["batch"], device)
        return Dense(module=plain_network(net.model), inputs=[net.x])
    side = job.get("side", 224)
    model = models.build(job["builder"], steps=4, stem="imagenet" if side >= 64 else "cifar").to(device).eval()
    return Dense(module=plain_network(model), inputs=[torch.rand(job["batch"], 3, side, side, device=device)])


def run_jobs(some: Sequence[Job], device: torch.device) -> int:
    """Compile one job after the other, passing over those that fail, and return how many worked."""
    done = 0
    for job in some:
        with suppress(Exception), fast_dense():
            variant = Variant(mode="compile", dtype=job["dtype"], layout=job["layout"])
            prepare(dense_of(job, device), variant, device)
            done += 1
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return done


def deal(items: Sequence[Job], hands: int) -> list[list[Job]]:
    """Deal jobs to processes in turn.

    >>> deal([{"a": 1}, {"a": 2}, {"a": 3}], 2)
    [[{'a': 1}, {'a': 3}], [{'a': 2}]]
    """
    return [list(items[i::hands]) for i in range(min(hands, len(items)))]


def warm(config: GpuBenchConfig, budget: Budget, workers: int | None = None) -> str:
    """Compile in parallel until all is done or the time is up, and say what happened.

    Args:
        config: settings.
        budget: time for it.
        workers: processes; by default two fewer than there are cores, 12 at most.
    """
    todo = jobs(config)
    if not todo:
        return "warm: nothing to compile"
    began = time.perf_counter()
    count = workers or max(1, min(12, (os.cpu_count() or 2) - 2))
    hands = deal(todo, count)
    # One compiling thread a process: the processes are the parallelism.
    env = inherited(TORCHINDUCTOR_COMPILE_THREADS="1", OMP_NUM_THREADS="1")
    command = [sys.executable, "-m", "sparseflow.recipes.spike_bench.gpu.warm", config.device]
    running = [
        subprocess.Popen([*command, json.dumps(hand)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for hand in hands
    ]
    while budget.left() > 0 and any(p.poll() is None for p in running):
        time.sleep(0.5)
    late = 0
    for process in running:
        if process.poll() is None:
            process.kill()
            late += 1
        process.wait()
    forgotten = forget_timings()
    return (
        f"warm: {len(todo)} rivals in {len(hands)} processes, {time.perf_counter() - began:.0f} s, "
        f"{late} processes stopped early, {forgotten} timings forgotten"
    )


def forget_timings(folder: Path | None = None) -> int:
    """Delete the configurations that inductor chose by timing, and return how many there were."""
    if folder is None:
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        folder = Path(cache_dir())
    count = 0
    for path in folder.rglob("*.best_config"):
        with suppress(OSError):
            path.unlink()
            count += 1
    return count


if __name__ == "__main__":
    run_jobs(json.loads(sys.argv[2]), torch.device(sys.argv[1]))
