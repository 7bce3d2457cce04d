"""Tells of every record in benchmarks/results whether what it measured has changed since.

A record is of a commit, and most commits change nothing that it measured. So for each commit that a record names, the
files behind its figures (`sparseflow.recipes.sources`) are compared, there and at HEAD: `fresh` if all are the same,
`stale` with the paths that differ, `unknown` if the record or git cannot tell. A commit "-dirty" was not all that ran.
Staleness is no fault: a helper's new docstring makes a record stale too. So this is a list to read, and no gate; the
status is 0 whatever it says.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sparseflow.errors import DataError
from sparseflow.recipes.codesign.bench import SUITES
from sparseflow.recipes.sources import Tree, differences, ids, of_commit, used_by
from sparseflow.recipes.spike_bench.gpu.sources import stage_sources

ROOT = Path(__file__).resolve().parents[1]
RECIPES = "sparseflow.recipes"
# The modules that measure, by the beginning of a record's name; the longest that fits counts.
MEASURED: dict[str, tuple[str, ...]] = {
    "spike_cpu": (f"{RECIPES}.spike_bench.bench",),
    "spike_coverage": ("benchmarks.coverage", "sparseflow.compress.sparsify.optimize"),
    "spike_train": (f"{RECIPES}.spike_train",),
    "forecast": (f"{RECIPES}.forecast.train",),
    "forecast_bench": (f"{RECIPES}.forecast.bench",),
    "forecast_cpu": (f"{RECIPES}.forecast.bench",),
    "forecast_int8": (f"{RECIPES}.forecast.bench",),
    "forecast_checks": (f"{RECIPES}.forecast.checks",),
    "forecast_pack": (f"{RECIPES}.forecast.prove",),
    "triseg": (f"{RECIPES}.triseg.accuracy", f"{RECIPES}.triseg.finetune"),
    "triseg_cpu": (f"{RECIPES}.triseg.bench",),
    "triseg_h200": (f"{RECIPES}.triseg.bench",),
    "triseg_zoo": (f"{RECIPES}.triseg.zoo",),
    "video": (f"{RECIPES}.video.bench",),
    "video_prove": (f"{RECIPES}.video.prove",),
    "video_accuracy": (f"{RECIPES}.video.train", f"{RECIPES}.video.compare"),
    "codesign_layers": (f"{RECIPES}.codesign.measure",),
    "codesign": tuple(f"{RECIPES}.codesign.{suite}" for suite in SUITES.values()),
    **{f"codesign_{name}": (f"{RECIPES}.codesign.{suite}",) for name, suite in SUITES.items()},
}
# Lists of all capabilities, which grow with each: what a record measures is imported by itself.
LISTS = ("src/sparseflow/api.py", "src/sparseflow/ops/__init__.py", "src/sparseflow/ops/_formulas.py")
# A GPU runs nothing of csrc/, for which this stands.
NATIVE = ("src/sparseflow/ops/_native.pyi",)
SHOWN = 6


def commits(body: Any) -> set[str]:
    """Return the commits that a record names, anywhere in it; the longest form of each.

    >>> sorted(commits({"environment": {"Commit": "abc1234, def5678-dirty"}, "runs": [{"commit": None}]}))
    ['abc1234', 'def5678-dirty']
    """
    found = {name for value in _values(body, "commit") for name in re.findall(r"\b[0-9a-f]{7,40}(?:-dirty)?", value)}
    return {name for name in found if not any(other != name and other.startswith(name) for other in found)}


def state(name: str, body: Mapping[str, Any], tree: Callable[[str], Tree]) -> dict[str, Any]:
    """Return what is known of one record: its commits, "fresh", "stale" or "unknown", and the paths or the reason.

    Args:
        name: stem of the record's file.
        body: the record.
        tree: gives the sources of a commit or of "HEAD".
    """
    found: dict[str, Any] = {"record": name, "commits": sorted(commits(body)), "changed": [], "why": ""}
    try:
        then_and_now = list(_compared(name, body, found["commits"], tree))
    except DataError as e:
        return {**found, "state": "unknown", "why": str(e)}
    changed = sorted({line.partition(": ")[0] for then, now in then_and_now for line in differences(then, now)})
    return {**found, "state": "stale" if changed else "fresh", "changed": changed}


def _compared(
    name: str, body: Mapping[str, Any], of: Sequence[str], tree: Callable[[str], Tree]
) -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Yield the ids of the files behind a record at each commit that it names, and at HEAD."""
    if body.get("bench") == "spike-gpu":
        for stage, found in body["stages"].items():
            yield stage_sources(tree(found["commit"]), stage), stage_sources(tree("HEAD"), stage)
        return
    modules = MEASURED.get(max((known for known in MEASURED if name.startswith(known)), key=len, default=""))
    if modules is None:
        raise DataError("tools/fresh.py does not say which modules measured it")
    if not of:
        raise DataError("it names no commit")
    on_gpu = any("NVIDIA" in value for value in _values(body, "device", "gpu"))
    left_out = (*LISTS, *(NATIVE if on_gpu else ()))
    for commit in of:
        then, now = tree(commit.removesuffix("-dirty")), tree("HEAD")
        yield ids(then, used_by(then, modules, left_out)), ids(now, used_by(now, modules, left_out))


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line for each record, or all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print all, with every path")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results", help="folder of the records")
    given = parser.parse_args(argv)
    tree = cache(lambda commit: of_commit(ROOT, commit))
    files = sorted(p for p in given.results.iterdir() if p.suffix in (".json", ".jsonl"))
    rows = [state(p.stem, _read(p), tree) for p in files]
    if given.json:
        print(json.dumps({"records": rows}, indent=1))
        return 0
    for row in rows:
        print(f"{row['state']:8}{row['record']:28}{', '.join(c[:12] for c in row['commits'])}")
        rest = len(row["changed"]) - SHOWN
        for line in [*row["changed"][:SHOWN], *([f"and {rest} more"] if rest > 0 else []), row["why"]]:
            if line:
                print(f"{'':8}  {line}")
    return 0


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else {"runs": [json.loads(line) for line in text.splitlines()]}


def _values(body: Any, *keys: str) -> Iterator[str]:
    """Yield what stands under some keys, in small letters, at any depth; as JSON where it is no text."""
    if isinstance(body, Mapping):
        for key, value in body.items():
            if key.lower() in keys:
                yield value if isinstance(value, str) else json.dumps(value)
            else:
                yield from _values(value, *keys)
    elif isinstance(body, list):
        for value in body:
            yield from _values(value, *keys)


if __name__ == "__main__":
    sys.exit(main())
