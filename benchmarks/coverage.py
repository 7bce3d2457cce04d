"""Try `sparseflow.optimize` on SpikingJelly's builders: it works or refuses, and is never slower.

python -m benchmarks.coverage [--json] [--only NAME] [--out FILE]

Random weights with batch statistics that let the neurons fire, random images:
the figures say what optimize does with a structure, not how fast a trained
network becomes.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from spikingjelly.activation_based import functional

import sparseflow
from benchmarks.spikingjelly_models import BUILDERS, Builder
from sparseflow.compress.sparsify.parity import Parity, compare_outputs, judge
from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import SparseFlowError
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic
from tests import torchvision_shim

KINDS = ("ms_resnet", "spikformer", "qkformer", "sdt")
BOUND = 0.98


def try_builder(builder: Builder, repeats: int) -> dict[str, Any]:
    """Optimise one network and time it against the network as it came."""
    model, sample = builder.make(), builder.sample()
    row: dict[str, Any] = {"name": builder.name, "sample": list(sample.shape), "outcome": "", "ratio": None}
    began = time.perf_counter()
    try:
        optimized, report = sparseflow.optimize(model, sample, report=True)
    except SparseFlowError as e:
        return {**row, "outcome": "refused", "reason": f"{type(e).__name__}: {e}"}
    row["optimize_s"] = time.perf_counter() - began
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
    if reason is not None:
        return {**row, "outcome": "failed", "reason": f"wrong result: {reason}"}
    timings = measure(fns, repeats=repeats, budget_s=20.0)
    row["dense_s"], row["optimized_s"] = timings["dense"].median_s, timings["optimized"].median_s
    row["ratio"] = ratio(timings, "dense", "optimized")
    return row


def main(argv: list[str] | None = None) -> int:
    """Run all builders, print a table or JSON, and return 0 only if every check holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--only", action="append", help="a builder's name; may be repeated")
    parser.add_argument("--repeats", type=int, default=15, help="rounds of each measurement")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="file for the JSON")
    chosen = parser.parse_args(argv)
    if chosen.out:
        prepare_folder(Path(chosen.out).parent)
    torchvision_shim.install()
    torch.set_num_threads(chosen.threads)
    rows = []
    for builder in BUILDERS:
        if chosen.only and builder.name not in chosen.only:
            continue
        try:
            rows.append(try_builder(builder, chosen.repeats))
        except Exception as e:
            rows.append(
                {"name": builder.name, "outcome": "failed", "reason": f"{type(e).__name__}: {e}", "ratio": None}
            )
        print(f"{len(rows)}: {rows[-1]['name']} {rows[-1]['outcome']} {rows[-1]['ratio']}", file=sys.stderr)
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
        networks=rows,
    )
    text = json.dumps(body, indent=1, allow_nan=False)
    if chosen.out:
        write_atomic(chosen.out, text)
    print(text) if chosen.json else _table(rows)
    return 0 if body["ok"] else 1


def _table(rows: list[dict[str, Any]]) -> None:
    table = Table("network", "outcome", "replaced", "capture", "over dense")
    table.add_column("reason", no_wrap=True, overflow="ellipsis")
    for row in rows:
        replaced = f"{row.get('replaced', 0)} of {row.get('layers', 0)}"
        over = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
        table.add_row(row["name"], row["outcome"], replaced, row.get("captured_by", ""), over, row.get("reason", ""))
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
