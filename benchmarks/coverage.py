"""Try `sparseflow.optimize` on SpikingJelly's builders: it works or refuses, and is never slower.

python -m benchmarks.coverage [--json] [--only NAME] [--out FILE]
python -m benchmarks.coverage --device cuda --jobs 10 --budget 500 --out FILE

Random weights with batch statistics that let the neurons fire, random images:
the figures say what optimize does with a structure, not how fast a trained
network becomes. On a GPU the dense side is the fastest of eager and compiled
forms in float32 and float16, and several processes share the device: they
compile side by side, and when all is built they take turns to optimise and to time. On a CPU the dense
side is the network as it came, eager; the form that inductor compiles within
`--compile-s` seconds stands beside it, else the row says why it does not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional

import sparseflow
from benchmarks.coverage_cpu import compiled
from benchmarks.coverage_gpu import locked, rivals
from benchmarks.coverage_turns import Turns, by_cost
from benchmarks.spikingjelly_models import BUILDERS, Builder
from sparseflow.compress import Effort
from sparseflow.compress.sparsify.parity import Parity, compare_outputs, judge
from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import MeasurementError, SparseFlowError
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.spike_bench.gpu.record import plain
from sparseflow.recipes.spike_bench.gpu.rivals import captured, time_limit
from sparseflow.recipes.spike_bench.gpu.settings import cores
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic
from tests import torchvision_shim

KINDS = ("ms_resnet", "spikformer", "qkformer", "sdt")
BOUND = 0.98
# Share of the time in which processes build; they measure in the rest.
BUILDING = 0.68
HASTY = Effort(repeats=1, budget_s=0.0, model_budget_s=0.0)


def try_builder(
    builder: Builder,
    repeats: int,
    device: str = "cpu",
    *,
    compile: bool = False,
    precision: str = "fp16",
    lock: str | None = None,
    compile_s: float = 0.0,
) -> dict[str, Any]:
    """Optimise one network and time it against the network as it came.

    Args:
        builder: what to build.
        repeats: timed rounds.
        device: "cpu" or "cuda".
        compile: on a GPU, let the dense side be compiled too.
        precision: precision of the optimised network on a GPU.
        lock: file whose lock the process holds while it measures, or None.
        compile_s: on a CPU, seconds that torch.compile may take for the dense side; 0 leaves it out.
    """
    trial = trial_of(builder, repeats, device, compile=compile, precision=precision, lock=lock, compile_s=compile_s)
    while True:
        try:
            next(trial)
        except StopIteration as done:
            row: dict[str, Any] = done.value
            return row


def trial_of(
    builder: Builder,
    repeats: int,
    device: str,
    *,
    compile: bool,
    precision: str,
    lock: str | None,
    compile_s: float,
) -> Generator[None, None, dict[str, Any]]:
    """Do what `try_builder` does, with a pause when all is built and before anything is measured."""
    model, sample = builder.make(), builder.sample()
    row: dict[str, Any] = {"name": builder.name, "sample": list(sample.shape), "outcome": "", "ratio": None}
    gpu = device != "cpu"
    model, sample = model.to(device), sample.to(device)
    more: dict[str, Any] = {"precision": precision} if gpu else {}
    dense: dict[str, Any] = {}
    began = time.perf_counter()
    if gpu:
        # First: optimize races the same compiled forms, and then finds them in inductor's cache.
        dense, row["not_run"] = rivals(model, sample, compile=compile)
        row["compiled"] = any(name.startswith("compile") for name in dense)
        row["rivals_s"] = time.perf_counter() - began
        if lock is not None:
            # What has to be built is built while others build too; the turn with the lock is for measuring.
            with suppress(SparseFlowError):
                sparseflow.optimize(model, sample, effort=HASTY, **more)
        row["built_s"] = time.perf_counter() - began
    yield
    try:
        with locked(lock):
            began = time.perf_counter()
            optimized, report = sparseflow.optimize(model, sample, report=True, **more)
            row["optimize_s"] = time.perf_counter() - began
    except SparseFlowError as e:
        return {**row, "outcome": "refused", "reason": f"{type(e).__name__}: {e}"}
    kernels = [layer.kernel for layer in report.layers]
    row["replaced"] = sum(k != "dense" for k in kernels)
    row["layers"] = len(kernels)
    row["captured_by"] = report.captured_by
    row["outcome"] = "optimized" if row["replaced"] else "kept dense"
    row["reason"] = "; ".join(sorted({f"{r.what}: {r.reason}" for r in report.refusals if not r.layer}))

    def runner(net: torch.nn.Module) -> Any:
        def run() -> Any:
            functional.reset_net(net)
            with torch.no_grad():
                return net(sample)

        return run

    fns = {"dense": runner(model), "optimized": runner(optimized)}
    row["rel_err"], row["top1_equal"] = compare_outputs(fns["dense"](), fns["optimized"]())
    row["parity"] = report.parity
    reason = judge(Parity(rel_err=row["rel_err"], top1=row["top1_equal"]))
    if reason is not None and not gpu:
        return {**row, "outcome": "failed", "reason": f"wrong result: {reason}"}
    if gpu:
        # Rounded weights flip spikes near the threshold, so logits of random networks differ; spikes are what counts.
        row["parity_note"] = reason
        if row["rel_err"] != row["rel_err"]:
            return {**row, "outcome": "failed", "reason": "the output is not finite"}
        ours, row["timing"] = captured(fns["optimized"], sample.device)
        # Where no form could be made, the network as it came is what a user has.
        fns = {**(dense or {"as it came": fns["dense"]}), "optimized": ours}
    if compile_s and not gpu:
        try:
            fns["compiled"] = compiled(model, sample, compile_s)
        except Exception as e:
            row["not_compiled"] = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"[:200]
    with locked(lock):
        began = time.perf_counter()
        if gpu:
            first = measure(fns, warmup=5, repeats=7, budget_s=10.0)
            best = min((k for k in fns if k != "optimized"), key=lambda k: first[k].median_s)
            fns = {"dense": fns[best], "optimized": fns["optimized"]}
            row["rival"] = best
        timings = measure(fns, repeats=repeats, warmup=20 if gpu else 3, budget_s=20.0)
    row["measure_s"] = time.perf_counter() - began
    row["dense_s"], row["optimized_s"] = timings["dense"].median_s, timings["optimized"].median_s
    row["ratio"] = ratio(timings, "dense", "optimized")
    if "compiled" in timings:
        row["compiled_s"] = timings["compiled"].median_s
        row["over_compiled"] = ratio(timings, "compiled", "optimized")
    return row


def main(argv: list[str] | None = None) -> int:
    """Run all builders, print a table or JSON, and return 0 only if every check holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", action="append", help="a builder's name; may be repeated")
    parser.add_argument("--part", default="1/1", help="a share of the builders, as 1/2 for the first of every two")
    parser.add_argument("--repeats", type=int, help="rounds of each measurement; 15, or 100 on a GPU")
    parser.add_argument("--compile-s", type=float, default=60.0, help="CPU: seconds to compile a rival; 0: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--jobs", type=int, default=0, help="processes; on a GPU up to 24, else 1")
    parser.add_argument("--budget", type=float, default=500.0, help="seconds after which processes are stopped")
    parser.add_argument("--precision", default="fp16", help="of the optimised networks on a GPU")
    parser.add_argument("--no-compile", action="store_true", help="time the dense side in eager mode only")
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--turns", help=argparse.SUPPRESS)
    parser.add_argument("--out", help="file for the JSON")
    chosen = parser.parse_args(argv)
    if chosen.out:
        prepare_folder(Path(chosen.out).parent)
    if chosen.device == "cpu":
        torchvision_shim.install()
    torch.set_num_threads(chosen.threads)
    if chosen.repeats is None:
        chosen.repeats = 15 if chosen.device == "cpu" else 100
    jobs = chosen.jobs or (1 if chosen.device == "cpu" else max(1, min(24, cores() - 1)))
    builders = [b for b in BUILDERS if not chosen.only or b.name in chosen.only]
    number, shares = (int(n) for n in chosen.part.split("/"))
    if not chosen.rows:
        builders = builders[number - 1 :: shares]
    if chosen.rows:
        builders = by_cost(builders)
        for row in _rows_in_turns(builders, chosen):
            with open(chosen.rows, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        return 0
    rows = _side_by_side(builders, chosen, jobs) if jobs > 1 else list(_rows(builders, chosen))
    timed = [row for row in rows if row["ratio"] is not None]
    body = checks_body(
        [
            Check(show="4", name="builders tried", value=len(rows), unit="networks", rule=">=", bound=25),
            Check(
                show="4",
                name="builders that neither work nor are refused with a reason",
                value=sum(row["outcome"] == "failed" for row in rows),
                unit="networks",
                rule="==",
                bound=0,
            ),
            Check(
                show="4",
                name=f"kinds among {', '.join(KINDS)} tried",
                value=sum(any(row["name"].startswith(kind) for row in rows) for kind in KINDS),
                unit="kinds",
                rule="==",
                bound=len(KINDS),
            ),
            Check(
                show="4",
                name="slowest network over dense",
                value=min((row["ratio"] for row in timed), default=float("nan")),
                unit="x",
                rule=">=",
                bound=BOUND,
            ),
        ],
        bench="spike-coverage",
        environment=describe(),
        threads=chosen.threads,
        weights="random, with batch statistics of random images",
        not_tried=[b.name for b in builders if not any(row["name"] == b.name for row in rows)],
        networks=plain(rows),
    )
    text = json.dumps(body, indent=1, allow_nan=False)
    if chosen.out:
        write_atomic(chosen.out, text)
    print(text) if chosen.json else _table(rows)
    return 0 if body["ok"] else 1


def _rows(builders: Sequence[Builder], chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    more: dict[str, Any] = {"compile_s": 0.0 if chosen.no_compile else chosen.compile_s}
    if chosen.device != "cpu":
        more = {"device": chosen.device, "compile": not chosen.no_compile, "precision": chosen.precision}
    for i, builder in enumerate(builders):
        try:
            row = try_builder(builder, chosen.repeats, **more)
        except Exception as e:
            row = _failed(builder, e)
        print(f"{i + 1}: {row['name']} {row['outcome']} {row['ratio']} {row.get('over_compiled', '')}", file=sys.stderr)
        yield row
        if chosen.device != "cpu":
            torch._dynamo.reset()
            torch.cuda.empty_cache()


def _rows_in_turns(builders: Sequence[Builder], chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Build what this process gets to, wait for the others, and measure it in turn; what is late is left out."""
    folder, processes, build_until = json.loads(chosen.turns)
    turns = Turns(Path(folder), processes, build_until)
    # Several networks of one class are compiled in this process, each several times.
    torch._dynamo.config.recompile_limit = 128
    trials = []
    while (number := turns.claim(len(builders))) is not None:
        builder = builders[number]
        trial = trial_of(
            builder, chosen.repeats, chosen.device, compile=not chosen.no_compile, precision=chosen.precision,
            lock=turns.lock, compile_s=0.0,
        )  # fmt: skip
        try:
            with time_limit(turns.left()):
                next(trial)
            trials.append((builder, trial))
        except MeasurementError:
            print(f"{builder.name}: not built in time", file=sys.stderr)
        except Exception as e:
            yield _failed(builder, e)
    turns.built()
    # The last one taken was built the fastest.
    for builder, trial in reversed(trials):
        try:
            next(trial)
            raise RuntimeError("it paused twice")
        except StopIteration as done:
            row: dict[str, Any] = done.value
        except Exception as e:
            row = _failed(builder, e)
        print(f"{row['name']} {row['outcome']} {row['ratio']} {row.get('optimize_s')}", file=sys.stderr)
        yield row


def _failed(builder: Builder, e: Exception) -> dict[str, Any]:
    return {"name": builder.name, "outcome": "failed", "reason": f"{type(e).__name__}: {e}"[:500], "ratio": None}


def _side_by_side(builders: Sequence[Builder], chosen: argparse.Namespace, jobs: int) -> list[dict[str, Any]]:
    """Share the builders among processes, and gather what is done when the time is up."""
    with _folder() as folder:
        running, count, began = [], min(jobs, len(builders)), time.monotonic()
        turns = json.dumps([str(folder), count, time.time() + BUILDING * chosen.budget])
        for i in range(count):
            command = [
                sys.executable, "-m", "benchmarks.coverage", "--device", chosen.device, "--precision", chosen.precision,
                "--repeats", str(chosen.repeats), "--rows", str(folder / f"{i}.jsonl"), "--turns", turns,
            ]  # fmt: skip
            for builder in builders:
                command += ["--only", builder.name]
            command += ["--no-compile"] if chosen.no_compile else []
            env = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
            running.append(subprocess.Popen(command, env=env))
        end = began + chosen.budget
        while time.monotonic() < end and any(p.poll() is None for p in running):
            time.sleep(0.2)
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
        rows = [
            json.loads(x) for path in folder.glob("*.jsonl") for x in path.read_text().splitlines() if x[-1:] == "}"
        ]
    order = {builder.name: i for i, builder in enumerate(builders)}
    return sorted(rows, key=lambda row: order[row["name"]])


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _table(rows: list[dict[str, Any]]) -> None:
    table = Table("network", "outcome", "replaced", "capture", "over dense", "over compiled")
    table.add_column("reason", no_wrap=True, overflow="ellipsis")
    for row in rows:
        replaced = f"{row.get('replaced', 0)} of {row.get('layers', 0)}"
        over = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        beside = f"{row['over_compiled']:.2f}x" if "over_compiled" in row else ""
        reason = row.get("reason", "")
        table.add_row(row["name"], row["outcome"], replaced, row.get("captured_by", ""), over, beside, reason)
    console = Console()
    (console if console.is_terminal else Console(width=160)).print(table)


if __name__ == "__main__":
    sys.exit(main())
