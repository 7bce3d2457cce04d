"""Compile the rivals in parallel processes, so that the bench itself finds them in inductor's cache.

Only code is taken over: what a process learnt by timing kernels while others
used the device is deleted again, so that no rival is tuned on a busy device.
What max-autotune chose by timing lies in a cache of its own, which is dropped;
the candidates that it compiled stay.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.ir.env import inherited
from sparseflow.nn import models
from sparseflow.recipes.spike_bench.gpu.blocks import CASES, BlockCase, make_block, our_side, spikes
from sparseflow.recipes.spike_bench.gpu.correct import BATCH, LARGE_BATCH, SHIPPED
from sparseflow.recipes.spike_bench.gpu.dense import DenseBlock, plain_network
from sparseflow.recipes.spike_bench.gpu.memory import memory_case
from sparseflow.recipes.spike_bench.gpu.nets import CLAIMS, load_trained
from sparseflow.recipes.spike_bench.gpu.network import BATCHES, BESIDE
from sparseflow.recipes.spike_bench.gpu.prebuild import build_share
from sparseflow.recipes.spike_bench.gpu.rivals import Dense, Variant, prepare
from sparseflow.recipes.spike_bench.gpu.seed import SEED_CASES
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, cores, fast_dense

__all__ = ["dense_of", "jobs", "network_of", "run_job", "warm"]

Job = dict[str, Any]
# The likely fastest first, as `rivals.choose` takes them; the costly modes for the two that may need them.
LAST = "channels_last"
# Kinds of jobs without a rival.
OURS = ("memory", "whole")
# Processes that build the kernels of one network.
SHARES = 6
FORMS = (
    *(("compile", d, LAST) for d in ("fp16", "bf16", "tf32")),
    *(("compile", d, "nchw") for d in ("fp16", "bf16", "tf32")),
    *(("compile reduce-overhead", d, LAST) for d in ("fp16", "bf16")),
    *(("compile max-autotune", d, LAST) for d in ("fp16", "bf16")),
)


def jobs(config: GpuBenchConfig) -> list[Job]:
    """Return what the stages of a call will compile, the likely fastest forms of the largest networks first."""
    whole: list[Job] = []
    if "network" in config.stages:
        trained = {_builder(path): path for path in config.checkpoints}
        nets = [
            ({"checkpoint": trained[c.builder]} if c.builder in trained else {"builder": c.builder}, c.builder)
            for c in reversed(CLAIMS)
        ]
        nets += [({"checkpoint": path}, "") for path in config.checkpoints if not _builder(path)]
        whole += [
            {"kind": "network", **net, "batch": batch}
            for batch in BATCHES
            for net, builder in nets
            if config.wants(builder, batch) or not builder
        ]
    if "blocks" in config.stages:
        whole += [{"kind": "block", "case": asdict(c)} for c in CASES]
    if "memory" in config.stages and not config.quick:
        whole.append({"kind": "memory"})
    if "correct" in config.stages and not config.quick:
        compared = [(SHIPPED, BATCH), *((path, LARGE_BATCH) for path in config.checkpoints)]
        whole += [{"kind": "whole", "checkpoint": path, "batch": batch} for path, batch in compared]
    # Our own kernels are built at first use too, and take long one after the other.
    precisions = (config.precision, *(p for p in BESIDE if p != config.precision))
    shares = [
        {**job, "mode": "optimize", "dtype": p, "layout": "", "number": i, "of": SHARES}
        for p in precisions
        for job in whole
        if job["kind"] == "network" or (job["kind"] in OURS and p == config.precision)
        for i in range(SHARES)
    ]
    dense = [job for job in whole if job["kind"] not in OURS]
    forms = [{**job, "mode": mode, "dtype": d, "layout": k} for mode, d, k in FORMS for job in dense]
    # The likely best rival compiles longest of all that must be there, so it begins first.
    ours = [{**job, "mode": "ours", "dtype": p, "layout": ""} for job in dense if "case" in job for p in precisions]
    found = [*ours, *forms[: 2 * len(dense)], *shares, *forms[2 * len(dense) :]]
    if "seed" in config.stages:
        cases = {c.case().shape: c.case() for c in SEED_CASES}.values()
        found += [
            {"kind": "block", "case": asdict(c), "mode": "ours", "dtype": config.precision, "layout": ""} for c in cases
        ]
        found += [
            {"kind": "block", "case": asdict(c), "mode": mode, "dtype": d, "layout": k}
            for mode, d, k in FORMS
            for c in cases
            if d == "bf16"
        ]
    return found


def _builder(path: str) -> str:
    try:
        return models.read_checkpoint(path).model
    except Exception:  # the stage itself says what is wrong with a file
        return ""


def network_of(job: Job, device: torch.device) -> tuple[nn.Module, Tensor]:
    """Return the network of a job and images for it."""
    if job["kind"] == "memory":
        deep = memory_case(device)
        return deep.model, deep.x
    if "checkpoint" in job:
        net = load_trained(job["checkpoint"], job["batch"], device)
        return net.model, net.x
    side = job.get("side", 224)
    model = models.build(job["builder"], steps=4, stem="imagenet" if side >= 64 else "cifar").to(device).eval()
    return model, torch.rand(job["batch"], 3, side, side, device=device)


def dense_of(job: Job, device: torch.device) -> Dense:
    """Return the forward of a job; its weights do not matter."""
    if job["kind"] == "block":
        case = BlockCase(**job["case"])
        block = make_block(case, 0, device)
        return Dense(module=DenseBlock(block.folded, block.params, case.steps), inputs=[spikes(case, 0.1, 0, device)])
    model, x = network_of(job, device)
    return Dense(module=plain_network(model), inputs=[x])


def run_job(job: Job, device: torch.device) -> bool:
    """Compile one job, and tell whether it worked."""
    with suppress(Exception), fast_dense():
        if job["mode"] == "optimize":
            build_share(*network_of(job, device), job["dtype"], job["number"], job["of"])
            return True
        if job["mode"] == "ours":
            case = BlockCase(**job["case"])
            block, config = make_block(case, 0, device), GpuBenchConfig(device=str(device))
            our_side(case, block, [spikes(case, 0.1, 0, device)], config, device, job["dtype"])
            return True
        variant = Variant(mode=job["mode"], dtype=job["dtype"], layout=job["layout"])
        prepare(dense_of(job, device), variant, device)
        return True
    return False


def warm(config: GpuBenchConfig, budget: Budget, workers: int | None = None) -> str:
    """Compile in parallel, each job in a process of its own, until all is done or the time is up; say what happened.

    Args:
        config: settings.
        budget: time for it.
        workers: processes at a time; by default one fewer than there are processors, 24 at most.
    """
    todo = jobs(config)
    if not todo:
        return "warm: nothing to compile"
    began = time.perf_counter()
    count, total = workers or max(1, min(24, cores() - 1)), len(todo)
    running: list[subprocess.Popen[bytes]] = []
    done = 0
    with tempfile.TemporaryDirectory() as aside:
        while budget.left() > 0 and (todo or running):
            done += sum(process.poll() == 0 for process in running)
            running = [process for process in running if process.poll() is None]
            while todo and len(running) < count:
                running.append(_start(todo.pop(0), config.device, aside))
            time.sleep(0.2)
        late = 0
        for process in running:
            if process.poll() is None:
                process.kill()
                late += 1
            else:
                done += process.returncode == 0
            process.wait()
    forgotten = forget_timings()
    return (
        f"warm: {done} of {total} jobs, {count} at a time, in {time.perf_counter() - began:.0f} s; "
        f"{late} stopped early, {len(todo)} not begun, {forgotten} timings forgotten"
    )


def _start(job: Job, device: str, aside: str) -> "subprocess.Popen[bytes]":
    # One compiling thread a process: the processes are the parallelism.
    given = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(_triton_folder())}
    if job["mode"] == "compile max-autotune":
        given["TORCHINDUCTOR_CACHE_DIR"] = aside
    command = [sys.executable, "-c", f"from {__spec__.name} import main; main()", device, json.dumps(job)]
    return subprocess.Popen(
        command, env=inherited(**given), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=os.getcwd()
    )


def _triton_folder() -> Path:
    """Return where inductor keeps what Triton compiles for the first device, and keep it there for this process."""
    from torch._inductor.runtime.cache_dir_utils import triton_cache_dir

    return Path(triton_cache_dir(0))


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


def main() -> None:
    """Compile the job of the command line; status 1 if it does not compile."""
    sys.exit(0 if run_job(json.loads(sys.argv[2]), torch.device(sys.argv[1])) else 1)
