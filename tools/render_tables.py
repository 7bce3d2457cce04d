"""Renews the tables of measured figures in README.md and docs/ from benchmarks/results.

A table stands between `<!-- table: NAME -->` and `<!-- /table -->` and is made
from the checks in `benchmarks/results/NAME.json`, which a benchmark wrote;
`NAME.brief` has its ratios alone, threads side by side, `NAME.forms` is the table of its layers by form,
`NAME.traffic` that of what their floats cost to move, `NAME.horizons` that of forecasts, `NAME.choice` that of two of
their settings on val, `NAME.scans` that of scans by form; `NAME.blocks`, `.seed`, `.network`, `.memory` and
`.coverage` are stages of a GPU record, `.headline` its networks in short; `.searchers` and `.networks` are tables of
tri-segment search, `.integers`, `.rows`, `.edges` and `.cells` those of a forecaster's pack, `.arms` and `.speeds`
those of video transformers, `.rivals` that of a joint design. A name that ends in `?`
may have no result yet. So no figure in the prose is typed by hand. `--check` changes nothing and returns 1 if a table
is out of date.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tools.render_codesign import CODESIGN
from tools.render_forecast import FORECAST
from tools.render_gpu import GPU, NOTHING, STAGES, stage_table
from tools.render_pack import PACK
from tools.render_triseg import TRISEG
from tools.render_video import VIDEO

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"<!-- table: (?P<name>[\w.-]+\??) -->\n.*?<!-- /table -->", re.DOTALL)


def figure(value: float | bool | None, unit: str, digits: int = 3) -> str:
    """Return a figure with some significant digits and its unit.

    >>> figure(3.14159, "x"), figure(0.0, "flips"), figure(None, "x"), figure(12345.0, "rows")
    ('3.14×', '0 flips', 'not measured', '12345 rows')
    """
    if value is None:
        return "not measured"
    whole = float(value)
    text = f"{whole:.0f}" if whole == round(whole) or abs(whole) >= 1000 else f"{whole:.{digits}g}"
    return f"{text}×" if unit == "x" else f"{text} {unit}".strip()


def table(body: Mapping[str, Any]) -> str:
    """Return the checks of one benchmark as a Markdown table, with the machine below.

    Args:
        body: what a benchmark's `--json` prints: "checks", and where known
            "environment" with the machine's description, and "digits", how many its figures need.
    """
    lines = ["| what | measured | aim | held |", "|---|--:|--:|:-:|"]
    for check in body["checks"]:
        held = "yes" if check["ok"] else "**no**"
        aim = str(check["target"]) + ("×" if check["unit"] == "x" else "")
        value = figure(check["value"], check["unit"], body.get("digits", 3))
        lines.append(f"| {check['name']} | {value} | {aim} | {held} |")
    return "\n".join(lines + machine(body))


def machine(body: Mapping[str, Any]) -> list[str]:
    """Return the lines below a table that describe the machine, none if the record does not."""
    about = body.get("environment") or {}
    known = ("GPU", "CUDA", "Driver", "triton") if about.get("GPU") else ("Processor", "Instruction sets", "Cores")
    parts = [f"{k} {about[k]}" for k in (*known, "torch") if about.get(k)]
    return ["", f"<sub>{'; '.join(parts)}</sub>"] if parts else []


def brief(body: Mapping[str, Any]) -> str:
    """Return the ratios among the checks of a benchmark, a column for each count of threads, and how many checks hold.

    Args:
        body: with "checks", of which those in "x" are named "WHAT, N threads[, over RIVAL]".
    """
    rows: dict[str, dict[int, str]] = {}
    for check in body["checks"]:
        named = re.fullmatch(r"(?P<what>.*), (?P<threads>\d+) threads(?:, over .*)?", check["name"])
        if named and check["unit"] == "x":
            cell = figure(check["value"], "x") + ("" if check["ok"] else f" (**aim {check['target']}**)")
            rows.setdefault(named["what"], {})[int(named["threads"])] = cell
    threads = sorted({t for cells in rows.values() for t in cells}, reverse=True)
    heads = [f"{t} thread" + "s" * (t > 1) for t in threads]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'--:|' * len(threads)}"]
    lines += [f"| {what} | {' | '.join(cells.get(t, '') for t in threads)} |" for what, cells in rows.items()]
    held = sum(check["ok"] for check in body["checks"])
    return "\n".join([*lines, "", f"{held} of {len(body['checks'])} checks of the benchmark hold.", *machine(body)])


def forms(body: Mapping[str, Any]) -> str:
    """Return the geometric means of a layer benchmark by form, as a Markdown table with a legend.

    Args:
        body: with "layers", rows that hold form, spikes, threads, density and ratio,
            and "forms", what each form is.
    """
    groups: dict[tuple[int, str], dict[str, list[float]]] = {}
    for row in body["layers"]:
        sparse = "" if row["spikes"] == "trained" else f", {1 - row['density']:.0%} sparse"
        found = groups.setdefault((row["threads"], row["spikes"] + sparse), {})
        found.setdefault(row["form"], []).append(row["ratio"])
    names = list(body["forms"])
    lines = [f"| threads | spikes | {' | '.join(names)} |", f"|--:|---|{'--:|' * len(names)}"]
    for (threads, spikes), found in groups.items():
        means = [f"{statistics.geometric_mean(found[n]):.3g}×" if n in found else "" for n in names]
        lines.append(f"| {threads} | {spikes} | {' | '.join(means)} |")
    return "\n".join([*lines, "", *(f"* **{name}**: {what}" for name, what in body["forms"].items())])


def traffic(body: Mapping[str, Any]) -> str:
    """Return what moving the floats of each layer takes, as a Markdown table, for the sparsest spikes of every layer.

    Args:
        body: with "layers" and "memory", rows of threads, read and write in bytes a second.
    """
    speeds = {row["threads"]: row for row in body.get("memory", [])}
    if not speeds:
        return "*The record does not hold the speed of the memory.*"
    rows = [r for r in body["layers"] if r["read_bytes"] and r["spikes"] == "i.i.d."]
    least = min(r["density"] for r in rows)
    names = list(dict.fromkeys(r["form"] for r in rows))
    found: dict[tuple[int, str], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["density"] < 1.5 * least:
            found.setdefault((row["threads"], row["layer"]), {})[row["form"]] = row
    lines = [
        f"| threads | layer | floats in, out | time to move them | {' | '.join(f'{n}: bound | {n}' for n in names)} |",
        f"|--:|---|--:|--:|{'--:|' * 2 * len(names)}",
    ]
    for (threads, layer), forms_of in found.items():
        one = next(iter(forms_of.values()))
        seconds = one["read_bytes"] / speeds[threads]["read"] + one["written_bytes"] / speeds[threads]["write"]
        cells = [f"{f['dense_s'] / seconds:.3g}× | {f['ratio']:.3g}×" for f in map(forms_of.get, names) if f]
        moved = f"{one['read_bytes'] / 1e6:.1f}, {one['written_bytes'] / 1e6:.1f} MB"
        lines.append(f"| {threads} | {layer} | {moved} | {seconds * 1e3:.2f} ms | {' | '.join(cells)} |")
    about = [f"{t} threads {s['read'] / 1e9:.1f} and {s['write'] / 1e9:.1f} GB/s" for t, s in speeds.items()]
    return "\n".join([*lines, "", f"Reading and writing memory, measured in the same run: {', '.join(about)}."])


def render(text: str, results: Path) -> str:
    """Return a document with every table renewed.

    Raises:
        FileNotFoundError: a table names a result that does not exist.
    """

    def renew(match: re.Match[str]) -> str:
        name, _, part = match["name"].removesuffix("?").partition(".")
        path = results / f"{name}.json"
        if match["name"].endswith("?") and not path.exists():
            made = NOTHING
        elif part in STAGES:
            made = stage_table(json.loads(path.read_text()), part)
        else:
            ours = {"brief": brief, "forms": forms, "traffic": traffic}
            makers = {**ours, **FORECAST, **TRISEG, **PACK, **VIDEO, **CODESIGN, **GPU}
            made = makers.get(part, table)(json.loads(path.read_text()))
        return f"<!-- table: {match['name']} -->\n\n{made}\n\n<!-- /table -->"

    return BLOCK.sub(renew, text)


def main(argv: Sequence[str] | None = None) -> int:
    """Renew or check the tables; return 1 if one is out of date and only checked."""
    parser = argparse.ArgumentParser(description="Renew the tables of measured figures.")
    parser.add_argument("--check", action="store_true", help="change nothing, fail if a table is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to look at")
    args = parser.parse_args(argv)
    stale = []
    for path in [args.root / "README.md", *sorted((args.root / "docs").rglob("*.md"))]:
        old = path.read_text()
        new = render(old, args.root / "benchmarks" / "results")
        if new == old:
            continue
        stale.append(path.relative_to(args.root).as_posix())
        if not args.check:
            path.write_text(new)
    if args.check and stale:
        print(f"out of date: {', '.join(stale)}; say make tables")
        return 1
    print(f"renewed: {', '.join(stale)}" if stale else "every table matches its results")
    return 0


if __name__ == "__main__":
    sys.exit(main())
