"""Try `sparseflow.optimize` on SpikingJelly's builders: it works or refuses, and is never slower.

python -m benchmarks.coverage [--json] [--only NAME] [--out FILE]
python -m benchmarks.coverage --device cuda --jobs 10 --budget 500 --out FILE

Random weights with batch statistics that let the neurons fire, random images:
the figures say what optimize does with a structure, not how fast a trained
network becomes. On a GPU the dense side is the fastest of eager and compiled
forms in float32 and float16, and several processes share the device: they
compile side by side, and take turns to optimise and to time. What was timed while
a few others still compiled says so (`beside`), and is timed once more when all is quiet, if there is time.
On a CPU the dense side is the network as it came, eager; the form that inductor compiles within
`--compile-s` seconds stands beside it, else the row says why it does not.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional

import sparseflow
from benchmarks.coverage_cpu import compiled
from benchmarks.coverage_gpu import rivals
from benchmarks.coverage_turns import Turns, by_cost, cost_of
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
# Seconds between two looks at whether there is something to do.
PAUSE_S = 0.05
HASTY = Effort(repeats=1, budget_s=0.0, model_budget_s=0.0)


def try_builder(
    builder: Builder,
    repeats: int,
    device: str = "cpu",
    *,
    compile: bool = False,
    precision: str = "fp16",
    compile_s: float = 0.0,
) -> dict[str, Any]:
    """Optimise one network and time it against the network as it came.

    Args:
        builder: what to build.
        repeats: timed rounds.
        device: "cpu" or "cuda".
        compile: on a GPU, let the dense side be compiled too.
        precision: precision of the optimised network on a GPU.
        compile_s: on a CPU, seconds that torch.compile may take for the dense side; 0 leaves it out.
    """
    trial = trial_of(builder, repeats, device, compile=compile, precision=precision, compile_s=compile_s)
    next(trial)
    row: dict[str, Any] = next(trial)
    return row


def trial_of(
    builder: Builder,
    repeats: int,
    device: str,
    *,
    compile: bool,
    precision: str,
    compile_s: float,
    ahead: bool = False,
) -> Iterator[dict[str, Any]]:
    """Do what `try_builder` does, in steps: first all is built, and an empty row comes; then it is measured.

    Every further step times both sides once more. A network that is refused or wrong is not timed, and its row is
    the last one. With `ahead`, our kernels too are built in the first step.
    """
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
        if ahead:
            # What has to be built is built while others build too; the turn on the device is for measuring.
            with suppress(SparseFlowError):
                sparseflow.optimize(model, sample, effort=HASTY, **more)
        row["built_s"] = time.perf_counter() - began
    yield {}
    try:
        began = time.perf_counter()
        optimized, report = sparseflow.optimize(model, sample, report=True, **more)
        row["optimize_s"] = time.perf_counter() - began
    except SparseFlowError as e:
        yield {**row, "outcome": "refused", "reason": f"{type(e).__name__}: {e}"}
        return
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
        yield {**row, "outcome": "failed", "reason": f"wrong result: {reason}"}
        return
    if gpu:
        # Rounded weights flip spikes near the threshold, so logits of random networks differ; spikes are what counts.
        row["parity_note"] = reason
        if row["rel_err"] != row["rel_err"]:
            yield {**row, "outcome": "failed", "reason": "the output is not finite"}
            return
        ours, row["timing"] = captured(fns["optimized"], sample.device)
        # Where no form could be made, the network as it came is what a user has.
        fns = {**(dense or {"as it came": fns["dense"]}), "optimized": ours}
    if compile_s and not gpu:
        try:
            fns["compiled"] = compiled(model, sample, compile_s)
        except Exception as e:
            row["not_compiled"] = f"{type(e).__name__}: {(str(e).splitlines() or [''])[0]}"[:200]
    while True:
        yield {**row, **_timed(fns, repeats, gpu)}


def _timed(fns: Mapping[str, Callable[[], Any]], repeats: int, gpu: bool) -> dict[str, Any]:
    """Time both sides; on a GPU the dense one is chosen first, in a measurement of its own."""
    row: dict[str, Any] = {}
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
    rows, without = _side_by_side(builders, chosen, jobs) if jobs > 1 else (list(_rows(builders, chosen)), {})
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
        not_tried=without,
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
    """Build what this process gets to, and measure it in turn; a later row of a builder replaces an earlier one."""
    folder, processes, ends = json.loads(chosen.turns)
    turns = Turns(Path(folder), builders, processes, ends)
    # Several networks of one class are compiled in this process, each several times.
    torch._dynamo.config.recompile_limit = 128
    waiting: dict[int, Iterator[dict[str, Any]]] = {}
    noisy: dict[int, Iterator[dict[str, Any]]] = {}
    while turns.left() > 0:
        if (number := turns.claim()) is not None:
            try:
                waiting[number] = _build(builders[number], turns.patience(number), chosen)
                turns.built(number)
            except Exception as e:
                late = isinstance(e, MeasurementError)
                turns.out(number, f"not built: {e}" if late else "failed")
                if not late:
                    yield _failed(builders[number], e)
        if waiting and turns.due():
            with turns.device() as held:
                for number in sorted(waiting, key=lambda i: cost_of(builders[i]).turn_s) if held else ():
                    beside, began, trial = turns.building(), time.monotonic(), waiting.pop(number)
                    row = _measured(builders[number], trial)
                    turns.measured(number, time.monotonic() - began)
                    yield row | {"beside": beside}
                    if beside and row["ratio"] is not None:
                        noisy[number] = trial
        elif number is None and not turns.more():
            break
        if number is None:
            time.sleep(PAUSE_S)
    while noisy and turns.left() > 0:
        with turns.device() as held:
            if held:
                number, trial = noisy.popitem()
                row = _measured(builders[number], trial)
                if row["ratio"] is not None:
                    yield row | {"beside": 0}
        time.sleep(PAUSE_S)


def _build(builder: Builder, seconds: float, chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Return the trial of a builder with all built.

    Raises:
        MeasurementError: it takes longer.
    """
    trial = trial_of(
        builder, chosen.repeats, chosen.device, compile=not chosen.no_compile, precision=chosen.precision,
        compile_s=0.0, ahead=True,
    )  # fmt: skip
    with time_limit(seconds):
        next(trial)
    return trial


def _measured(builder: Builder, trial: Iterator[dict[str, Any]]) -> dict[str, Any]:
    try:
        row = next(trial)
    except Exception as e:
        row = _failed(builder, e)
    print(f"{row['name']} {row['outcome']} {row['ratio']} {row.get('optimize_s')}", file=sys.stderr)
    return row


def _failed(builder: Builder, e: Exception) -> dict[str, Any]:
    return {"name": builder.name, "outcome": "failed", "reason": f"{type(e).__name__}: {e}"[:500], "ratio": None}


def _side_by_side(
    builders: Sequence[Builder], chosen: argparse.Namespace, jobs: int
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Share the builders among processes; return what is done when the time is up, and why the others have no row."""
    with _folder() as folder:
        running: list[subprocess.Popen[bytes]] = []
        count, ends = min(jobs, len(builders)), time.time() + chosen.budget
        turns = Turns(folder, by_cost(builders), count, ends)
        for i in range(count):
            command = [
                sys.executable, "-m", "benchmarks.coverage", "--device", chosen.device, "--precision", chosen.precision,
                "--repeats", str(chosen.repeats), "--rows", str(folder / f"{i}.jsonl"),
                "--turns", json.dumps([str(folder), count, ends]),
            ]  # fmt: skip
            for builder in builders:
                command += ["--only", builder.name]
            command += ["--no-compile"] if chosen.no_compile else []
            env = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "1", "OMP_NUM_THREADS": "1"}
            with open(folder / f"{i}.err", "w", encoding="utf-8") as said:
                running.append(subprocess.Popen(command, env=env, stderr=said))
        ended: set[int] = set()
        while time.time() < ends and len(ended) < count:
            for i, process in enumerate(running):
                if process.poll() is not None and i not in ended:
                    ended.add(i)
                    if process.returncode:
                        why = f"its process ended, status {process.returncode}: {_last_line(folder / f'{i}.err')}"
                        turns.lost(process.pid, why)
            time.sleep(0.2)
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
        found: dict[str, dict[str, Any]] = {}
        for path in folder.glob("*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                # The last line of a process that was stopped may be half a line.
                with suppress(ValueError):
                    row = json.loads(line)
                    found[row["name"]] = row
        without = {name: why for name, why in turns.reasons().items() if name not in found}
        for path in sorted(folder.glob("*.err")):
            sys.stderr.write(path.read_text(encoding="utf-8", errors="replace")[-4000:])
    for name, why in without.items():
        print(f"{name}: {why}", file=sys.stderr)
    return [found[builder.name] for builder in builders if builder.name in found], without


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].strip()[:300] if lines else "it said nothing"


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
