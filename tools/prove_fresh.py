"""Shows that a newcomer's two commands work: clones into an empty folder and times them, twice each.

    python -m tools.prove_fresh [--json] [--commands run test] [--folder EMPTY] [--out FILE]

The clone installs into a `.venv` of its own from the registries that pip knows.
Nothing is shared with this checkout: what torch compiled before is not found.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparseflow.recipes.checks import Check, checks_body
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

ROOT = Path(__file__).resolve().parents[1]
SHOW = "1"
LIMITS_S = {("run", 1): 600, ("test", 1): 900, ("run", 2): 120, ("test", 2): 600}


def bare(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what this checkout's make and virtual environment put there.

    >>> bare({"PATH": "/bin", "MAKEFLAGS": "s", "TORCHINDUCTOR_CACHE_DIR": "/x"})
    {'PATH': '/bin'}
    """
    foreign = ("MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHON", "TORCHINDUCTOR", "SPARSEFLOW")
    return {key: value for key, value in environment.items() if not key.startswith(foreign)}


def timed(command: str, folder: Path) -> dict[str, Any]:
    """Run one make target; return its exit status, the seconds it took and the end of what it said."""
    began = time.perf_counter()
    done = subprocess.run(
        ["make", command], cwd=folder, env=bare(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, check=False,
    )  # fmt: skip
    seconds = time.perf_counter() - began
    print(f"make {command}: exit status {done.returncode}, {seconds:.0f} s", file=sys.stderr)
    return {"command": command, "status": done.returncode, "seconds": seconds, "tail": done.stdout[-3000:]}


def prove(folder: Path, commands: Sequence[str]) -> tuple[list[Check], dict[str, Any]]:
    """Clone into an empty folder and run each command there, then each again.

    Args:
        folder: does not exist yet, or is empty.
        commands: "run", "test" or both, in this order.
    """
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder)], check=True)
    sha = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
    checks, runs = [], []
    for round_ in (1, 2):
        for command in commands:
            found = timed(command, folder)
            runs.append({**found, "round": round_})
            title = f"make {command}" + (" again" if round_ == 2 else " in a fresh clone")
            status, seconds = found["status"], found["seconds"]
            checks += [
                Check(show=SHOW, name=title, value=status, unit="exit", rule="==", bound=0),
                Check(show=SHOW, name=title, value=seconds, unit="s", rule="<=", bound=LIMITS_S[command, round_]),
            ]
    installed = re.findall(r"==> (?:build tools|virtual environment|sparseflow|development)", runs[-1]["tail"])
    checks.append(
        Check(show=SHOW, name="installs in the last round", value=len(installed), unit="steps", rule="==", bound=0)
    )
    return checks, {"commit": sha.stdout.strip(), "runs": runs}


def main(argv: Sequence[str] | None = None) -> int:
    """Clone, run, print the checks, and return 0 only if every one holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--commands", nargs="+", choices=("run", "test"), default=["run", "test"])
    parser.add_argument("--folder", type=Path, help="where to clone, and to leave the clone; else a temporary one")
    parser.add_argument("--out", help="file for the JSON")
    chosen = parser.parse_args(argv)
    if chosen.out:
        prepare_folder(Path(chosen.out).parent)
    with tempfile.TemporaryDirectory() as temporary:
        checks, found = prove(chosen.folder or Path(temporary) / "clone", chosen.commands)
    body = checks_body(checks, bench="fresh-clone", environment=describe(), **found)
    text = json.dumps(body, indent=1, allow_nan=False)
    if chosen.out:
        write_atomic(chosen.out, text)
    if chosen.json:
        print(text)
    return 0 if body["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
