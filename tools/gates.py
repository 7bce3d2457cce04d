"""Runs every gate of `make test`, prints a table, and fails if one failed.

All gates run even after a failure, so that one run shows everything. pytest
comes last, and its closing line is the last line printed.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """One check: a name and the command that fails when the check does."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one gate returned."""

    gate: Gate
    code: int
    seconds: float
    output: str

    @property
    def last_line(self) -> str:
        """The closing line of the output, or ""."""
        lines = [line for line in self.output.splitlines() if line.strip()]
        return lines[-1].strip() if lines else ""


def gates(jobs: int) -> tuple[Gate, ...]:
    """Return the gates in the order in which they run, the fast ones first.

    Args:
        jobs: worker processes of pytest; 0 runs the tests in its own process.
    """
    python = sys.executable
    tool = str(Path(python).parent)
    pytest = (python, "-m", "pytest", "-q")
    return (
        Gate(name="ruff-check", command=(f"{tool}/ruff", "check", "--quiet", ".")),
        Gate(name="ruff-format", command=(f"{tool}/ruff", "format", "--check", "--quiet", ".")),
        Gate(name="pairing", command=(python, "-m", "tools.check_pairing")),
        Gate(name="wheel", command=(python, "-m", "tools.check_wheel")),
        Gate(name="results", command=(python, "-m", "benchmarks.verify")),
        Gate(name="tables", command=(python, "-m", "tools.render_tables", "--check")),
        Gate(name="lint-imports", command=(f"{tool}/lint-imports", "--no-cache")),
        Gate(name="mypy-strict", command=(f"{tool}/mypy",)),
        Gate(name="docs-build", command=(f"{tool}/mkdocs", "build", "--strict", "--quiet")),
        Gate(
            name="doctests",
            command=(
                *pytest,
                "--doctest-modules",
                "--doctest-glob=*.md",
                "src",
                "tools",
                "docs",
                "-p",
                "no:cacheprovider",
            ),
        ),
        Gate(name="pytest", command=(*pytest, "--durations=8", "-n", str(jobs))),
    )


def run(gate: Gate) -> Outcome:
    """Run one gate in the checkout's root and echo what it prints."""
    print(f"\n==> {gate.name}: {' '.join(Path(c).name if c.startswith('/') else c for c in gate.command)}", flush=True)
    start = time.perf_counter()
    lines: list[str] = []
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_MKDOCS_2_WARNING": "1"}
    with subprocess.Popen(
        gate.command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            sys.stdout.write(line)
            sys.stdout.flush()
    seconds = time.perf_counter() - start
    print(f"<== {gate.name}: {'ok' if process.returncode == 0 else f'FAILED ({process.returncode})'}, {seconds:.1f} s")
    return Outcome(gate=gate, code=process.returncode, seconds=seconds, output="".join(lines))


def table(outcomes: Sequence[Outcome]) -> str:
    """Return one line a gate, with its verdict and its time."""
    rows = [f"{'gate':<14}{'verdict':<10}{'seconds':>8}"]
    rows += [f"{o.gate.name:<14}{'ok' if o.code == 0 else 'FAILED':<10}{o.seconds:>8.1f}" for o in outcomes]
    rows.append(f"{'all':<24}{sum(o.seconds for o in outcomes):>8.1f}")
    return "\n".join(rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the gates and return the exit code: 0 only if all of them passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=2, help="worker processes of pytest (default 2)")
    parser.add_argument("--only", nargs="*", default=[], help="names of the gates to run; all by default")
    args = parser.parse_args(argv)
    chosen = [g for g in gates(args.jobs) if not args.only or g.name in args.only]
    if not chosen:
        parser.error(f"no gate is called {args.only}; they are {[g.name for g in gates(args.jobs)]}")
    outcomes = [run(gate) for gate in chosen]
    print(f"\n{table(outcomes)}")
    failed = [o.gate.name for o in outcomes if o.code != 0]
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nevery gate is green")
    print(outcomes[-1].last_line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
