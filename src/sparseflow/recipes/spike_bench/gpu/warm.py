"""Compile the rivals in parallel processes, so that the bench itself finds them in inductor's cache.

Only code is taken over: what a process learnt by timing kernels while others
used the device is deleted again, so that no rival is tuned on a busy device.
What max-autotune chose by timing lies in a cache of its own, which is dropped;
the candidates that it compiled stay.
"""

import gc
import json
import os
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from sparseflow.ir.env import inherited
from sparseflow.nn import models
from sparseflow.recipes.spike_bench.gpu.blocks import CASES, BlockCase, dense_block, make_block, our_side, spikes
from sparseflow.recipes.spike_bench.gpu.correct import LARGE_BATCH, SHIPPED
from sparseflow.recipes.spike_bench.gpu.memory import memory_case
from sparseflow.recipes.spike_bench.gpu.nets import CLAIMS, NetCase, load_trained
from sparseflow.recipes.spike_bench.gpu.network import BATCHES, BESIDE, dense_network
from sparseflow.recipes.spike_bench.gpu.prebuild import build_share
from sparseflow.recipes.spike_bench.gpu.rivals import Dense, Variant, prepare
from sparseflow.recipes.spike_bench.gpu.seed import SEED_CASES
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig, fast_dense
from sparseflow.recipes.spike_bench.gpu.tasks import hand_out
from sparseflow.recipes.spike_bench.gpu.trained_layers import BATCH

__all__ = ["dense_of", "jobs", "network_of", "run_job", "warm"]

Job = dict[str, Any]
# The likely fastest first, as `rivals.choose` takes them; the costly modes for the two that may need them.
LAST = "channels_last"
# Kinds of jobs without a rival.
OURS = ("memory", "whole")
# Processes that build the kernels of one network in one precision; each holds the network's activations.
SHARES = 6
FORMS = (
    *(("compile", d, LAST) for d in ("fp16", "bf16", "tf32")),
    *(("compile", d, "nchw") for d in ("fp16", "bf16", "tf32")),
    ("compile reduce-overhead", "fp16", LAST),
    ("compile max-autotune", "fp16", LAST),
)
# The costly modes run for the two fastest forms of a block, and for the fastest of a network.
SECOND = tuple((mode, "bf16", layout) for mode, _, layout in FORMS[-2:])
THEIRS = ("compile", "fp16", LAST)
# Processes, and threads of each, for what is tuned while others use the device.
TUNING, TUNING_THREADS = 2, 4


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
    forms += [{**job, "mode": m, "dtype": d, "layout": k} for m, d, k in SECOND for job in dense if "case" in job]
    mode, dtype, layout = THEIRS
    forms += [{**job, "mode": mode, "dtype": dtype, "layout": layout, "provider": "spikingjelly"} for job in dense]
    # The likely best rival compiles longest of all that must be there, so it begins first.
    ours = [{**job, "mode": "ours", "dtype": p, "layout": ""} for job in dense if "case" in job for p in precisions]
    found = [*ours, *forms[: 2 * len(dense)], *shares, *forms[2 * len(dense) :]]
    if "seed" in config.stages:
        cases = {c.case().shape: c.case() for c in SEED_CASES}.values()
        found += [
            {"kind": "block", "case": asdict(c), "mode": "ours", "dtype": config.precision, "layout": ""} for c in cases
        ]
        found += [
            {"kind": "block", "case": asdict(c), "mode": mode, "dtype": "bf16", "layout": k}
            for mode, k in dict.fromkeys((mode, k) for mode, _, k in FORMS)
            for c in cases
        ]
    return found


def _builder(path: str) -> str:
    try:
        return models.read_checkpoint(path).model
    except Exception:  # the stage itself says what is wrong with a file
        return ""


def network_of(job: Job, device: torch.device) -> NetCase:
    """Return the network of a job and images for it."""
    if job["kind"] == "memory":
        return memory_case(device)
    if "checkpoint" in job:
        return load_trained(job["checkpoint"], job["batch"], device)
    side, builder = job.get("side", 224), job["builder"]
    model = models.build(builder, steps=4, stem="imagenet" if side >= 64 else "cifar").to(device).eval()
    x = torch.rand(job["batch"], 3, side, side, device=device)
    return NetCase(name=builder, builder=builder, model=model, x=x, trained=False)


def dense_of(job: Job, device: torch.device) -> Dense:
    """Return the forward of a job; its weights do not matter."""
    if job["kind"] == "block":
        case = BlockCase(**job["case"])
        return dense_block(case, make_block(case, 0, device), [spikes(case, 0.1, 0, device)])
    case_ = network_of(job, device)
    return dense_network(case_, case_.x)


def run_job(job: Job, device: torch.device) -> bool:
    """Compile one job, and tell whether it worked."""
    with suppress(Exception), fast_dense():
        if job["mode"] == "optimize":
            net = network_of(job, device)
            build_share(net.model, net.x, job["dtype"], job["number"], job["of"])
            return True
        if job["mode"] == "ours":
            case = BlockCase(**job["case"])
            block, config = make_block(case, 0, device), GpuBenchConfig(device=str(device))
            our_side(case, block, [spikes(case, 0.1, 0, device)], config, device, job["dtype"])
            return True
        variant = Variant(
            mode=job["mode"], dtype=job["dtype"], layout=job["layout"], provider=job.get("provider", "torch")
        )
        prepare(dense_of(job, device), variant, device)
        return True
    return False


def warm(config: GpuBenchConfig, budget: Budget, workers: int | None = None) -> str:
    """Compile in parallel until all is done or the time is up, and say what happened.

    Args:
        config: settings.
        budget: time for it.
        workers: processes at a time; by default as many as the settings' crew has. A few more compile what is
            tuned while others use the device.
    """
    todo = jobs(config)
    if not todo:
        return "warm: nothing to compile"
    began = time.perf_counter()
    crew, prefix = config.crew()
    count = workers or crew
    said = ["", ""]
    with tempfile.TemporaryDirectory() as aside:
        tuned = [job for job in todo if job["mode"] == "compile max-autotune"]
        rest = [job for job in todo if job not in tuned]

        def pool(number: int, some: list[Job], processes: int, **env: str) -> None:
            said[number] = _compile(some, processes, prefix, config.device, budget, env)

        # As a rule one compiling thread a process: the processes are the parallelism.
        apart = {"TORCHINDUCTOR_COMPILE_THREADS": str(TUNING_THREADS), "TORCHINDUCTOR_CACHE_DIR": aside}
        hands = [
            threading.Thread(target=pool, args=(0, rest, min(count, len(rest)))),
            threading.Thread(target=pool, args=(1, tuned, min(TUNING, len(tuned))), kwargs=apart),
        ]
        for hand in hands:
            hand.start()
        for hand in hands:
            hand.join()
    forgotten = forget_timings()
    return f"warm: {'; '.join(said)}, in {time.perf_counter() - began:.0f} s; {forgotten} timings forgotten"


def _compile(
    todo: list[Job], processes: int, prefix: Sequence[str], device: str, budget: Budget, env: dict[str, str]
) -> str:
    """Let processes take jobs in turn, and say how many they did."""
    left, done, lost = deque(todo), 0, []
    lock = threading.Lock()

    def take() -> Job | None:
        with lock:
            return left.popleft() if left else None

    def put(job: Job, made: Any, reason: str) -> None:
        nonlocal done
        with lock:
            done += bool(made)
            if not made:
                lost.append(f"{job['mode']} {job['dtype']} {job['layout']}".strip())

    given = {"TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(_triton_folder())}
    command = [*prefix, sys.executable, "-c", f"from {__spec__.name} import main; main()", device]
    hand_out(command, take, dict, put, budget, processes, inherited(**{**given, **env}))
    without = f" (without {', '.join(dict.fromkeys(lost))})" if lost else ""
    return f"{done} of {len(todo)} jobs by {processes}, {len(left)} not begun{without}"


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
    """Compile the job of every line of the standard input, and answer each by whether it compiled."""
    device = torch.device(sys.argv[1])
    # What compilers print is no answer.
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    for line in sys.stdin:
        compiled = run_job(json.loads(line), device)
        print(json.dumps(compiled), file=answers, flush=True)
        gc.collect()
        if device.type == "cuda":
            # A device that is lost ends the process, and leaves its jobs to the others.
            torch.cuda.synchronize(device)
            torch.cuda.empty_cache()
