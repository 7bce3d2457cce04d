"""python -m sparseflow.recipes.spike_bench.gpu: the GPU bench with the standard library's parser."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from sparseflow.errors import SparseFlowError
from sparseflow.recipes.spike_bench.gpu import STAGES, TARGETS, GpuBenchConfig, bench_gpu, merge, tables
from sparseflow.recipes.spike_bench.gpu.merge import joins


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; 0 only if every check holds, 2 if it cannot be run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", choices=TARGETS, default="h200")
    parser.add_argument("--only", action="append", choices=STAGES, default=[], help="may be repeated")
    parser.add_argument("--out", help="file for the record; one that is there is completed")
    parser.add_argument("--json", action="store_true", help="print the record")
    parser.add_argument("--quick", action="store_true", help="a smoke run of about a minute")
    parser.add_argument("--budget", type=float, default=570.0, help="seconds of the whole call")
    parser.add_argument("--checkpoint", action="append", default=[], help="trained network; may be repeated")
    parser.add_argument("--case", action="append", default=[], help="network, as sew_resnet18:32; may be repeated")
    parser.add_argument("--part", default="", help="share of the coverage stage, as 1/2")
    parser.add_argument("--kernel", action="append", default=[], help="kernel to choose from; may be repeated")
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--configurations", type=int, default=200)
    parser.add_argument("--no-warm", action="store_true", help="do not compile rivals in parallel first")
    parser.add_argument("--helpers", default="", help="processors for what is not timed, as 2-15,18-31")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--commit", default="")
    parser.add_argument("--show", metavar="FILE", help="only print the tables of a record")
    parser.add_argument("--merge", nargs="+", metavar="FILE", help="only join records of parallel calls into --out")
    parser.add_argument("--joins", nargs="+", metavar="FILE", help="only see whether a run of --commit can join these")
    parser.add_argument("--name", default="", help="name of the device, with --joins")
    given = parser.parse_args(argv)
    try:
        return _run(given, parser)
    except SparseFlowError as e:
        print(f"{parser.prog}: {e}", file=sys.stderr)
        return 2


def _run(given: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if given.joins:
        joins(given.joins, device=given.name, commit=given.commit)
        return 0
    if given.merge:
        if not given.out:
            parser.error("--merge needs --out")
        body = merge(given.merge, given.out)
        print(json.dumps(body, indent=1) if given.json else tables(body))
        return 0 if body["ok"] else 1
    if given.show:
        print(tables(json.loads(Path(given.show).read_text(encoding="utf-8"))))
        return 0
    config = GpuBenchConfig(
        target=given.target,
        only=tuple(given.only),
        out=given.out,
        quick=given.quick,
        budget_s=given.budget,
        checkpoints=tuple(given.checkpoint),
        cases=tuple(given.case),
        part=given.part,
        kernels=tuple(given.kernel) or GpuBenchConfig().kernels,
        precision=given.precision,
        rounds=given.rounds,
        configurations=given.configurations,
        warm=not given.no_warm,
        helpers=given.helpers,
        device=given.device,
        commit=given.commit,
    )
    # A time limit from outside stops the call as Ctrl-C does: what is known is written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    body = bench_gpu(config, say=lambda line: print(line, file=sys.stderr, flush=True))
    print(json.dumps(body, indent=1) if given.json else tables(body, config.stages))
    return 0 if body["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
