"""Shows that `make test` catches faults: puts one into a copy of the checkout at a time, and runs it there.

    python -m tools.prove_gates [--json] [--quick] [--out FILE]

The copy is a clone of a commit beside an environment of its own that borrows the
packages of this one, so the checkout itself is not touched. Without `--quick`
every fault is met by the whole of `make test`; with it by the gates that should
catch it, and by them alone.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparseflow.recipes.checks import Check, checks_body
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic

ROOT = Path(__file__).resolve().parents[1]
SHOW = "5"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One deliberate fault.

    Args:
        name: what is wrong, in words.
        gates: gates of `make test` that must fail for it.
        plant: puts it into a checkout.
    """

    name: str
    gates: tuple[str, ...]
    plant: Callable[[Path], None]


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def _wrong_import(root: Path) -> None:
    # A noun reaches up into the room that uses it, and into a framework.
    _append(
        root / "src/sparseflow/ir/plan.py",
        "\n\ndef _upwards() -> object:\n    from sparseflow import api\n\n    return api\n",
    )


def _untested_module(root: Path) -> None:
    (root / "src/sparseflow/ir/untested.py").write_text('"""A module without a test."""\n', encoding="utf-8")


def _broken_doctest(root: Path) -> None:
    path = root / "src/sparseflow/ir/plan.py"
    _append(path, '\n\ndef _wrong() -> int:\n    """Return two.\n\n    >>> _wrong()\n    3\n    """\n    return 2\n')


FAULTS = (
    Fault(name="a wrong import", gates=("lint-imports",), plant=_wrong_import),
    Fault(name="an untested module", gates=("pairing",), plant=_untested_module),
    Fault(name="a broken doctest", gates=("doctests",), plant=_broken_doctest),
)


def clone(source: Path, target: Path, revision: str = "HEAD") -> None:
    """Clone a checkout at a revision, with an environment that borrows the packages and compiled kernels of this one.

    Nothing is built or fetched, and `make` finds both of its stamps there.
    """
    subprocess.run(["git", "clone", "--quiet", "--local", str(source), str(target)], check=True)
    sha = subprocess.run(
        ["git", "rev-parse", f"{revision}^{{commit}}"], cwd=source, check=True, capture_output=True, text=True
    )
    subprocess.run(["git", "checkout", "--quiet", sha.stdout.strip()], cwd=target, check=True)
    native = importlib.util.find_spec("sparseflow.ops._native")
    if native is not None and native.origin is not None:
        shutil.copy(native.origin, target / "src/sparseflow/ops")
    environment = target / ".venv"
    venv.create(environment, symlinks=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))
    (site / "borrowed.pth").write_text(f"{target / 'src'}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    for tool in Path(sys.executable).parent.iterdir():
        _borrow(tool, environment / "bin")
    for stamp in (".core", ".dev"):
        (environment / stamp).touch()


def _borrow(tool: Path, folder: Path) -> None:
    """Let a console script run in another environment; leave what is there."""
    own = folder / tool.name
    if own.exists() or not tool.is_file():
        return
    first, _, rest = tool.read_bytes().partition(b"\n")
    if not (first.startswith(b"#!") and b"python" in first):
        own.symlink_to(tool)
        return
    own.write_bytes(f"#!{folder / 'python'}\n".encode() + rest)
    own.chmod(0o755)


def make_test(root: Path, only: Sequence[str]) -> dict[str, Any]:
    """Run `make test` in a checkout; return its exit status, the gates that failed, and the seconds it took."""
    command = ["make", "test", f"VENV={root / '.venv'}", *([f"ONLY={' '.join(only)}"] if only else [])]
    began = time.perf_counter()
    # An outer make would hand its own settings down.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHON"))}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)
    said = re.findall(r"^failed: (.*)$", done.stdout, re.MULTILINE)
    return {
        "status": done.returncode,
        "failed": said[-1].split(", ") if said else [],
        "seconds": round(time.perf_counter() - began, 1),
        "tail": (done.stdout + done.stderr)[-1500:],
    }


def prove(
    faults: Sequence[Fault], folder: Path, *, quick: bool, revision: str = "HEAD"
) -> tuple[list[Check], dict[str, Any]]:
    """Run `make test` on a sound clone, then on one clone a fault.

    Args:
        faults: what to plant.
        folder: empty folder for the clones.
        quick: run the gates of the faults only.
        revision: what to clone.
    """
    every = [gate for fault in faults for gate in fault.gates]
    runs: dict[str, Any] = {}
    checks = []
    for n, fault in enumerate((None, *faults)):
        name = "no fault" if fault is None else fault.name
        root = folder / f"clone{n}"
        clone(ROOT, root, revision)
        if fault is not None:
            fault.plant(root)
        found = runs[name] = make_test(root, every if quick else ())
        print(
            f"{name}: exit status {found['status']}, failed: {found['failed']}, {found['seconds']} s", file=sys.stderr
        )
        rule, bound = ("==", 0) if fault is None else (">=", 1)
        checks.append(
            Check(show=SHOW, name=f"{name}: make test", value=found["status"], unit="exit", rule=rule, bound=bound)
        )
        if fault is not None:
            caught = sum(gate in found["failed"] for gate in fault.gates)
            title = f"{name}: {', '.join(fault.gates)} failed"
            checks.append(Check(show=SHOW, name=title, value=caught, unit="gates", rule="==", bound=len(fault.gates)))
        shutil.rmtree(root)
    return checks, runs


def main(argv: Sequence[str] | None = None) -> int:
    """Plant the faults, print the checks, and return 0 only if every fault was caught."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="run only the gates that should catch a fault")
    parser.add_argument("--revision", default="HEAD", help="commit to clone (default HEAD)")
    parser.add_argument("--out", help="file for the JSON")
    chosen = parser.parse_args(argv)
    if chosen.out:
        prepare_folder(Path(chosen.out).parent)
    with tempfile.TemporaryDirectory() as folder:
        checks, runs = prove(FAULTS, Path(folder), quick=chosen.quick, revision=chosen.revision)
    body = checks_body(checks, bench="gates", environment=describe(), quick=chosen.quick, runs=runs)
    text = json.dumps(body, indent=1, allow_nan=False)
    if chosen.out:
        write_atomic(chosen.out, text)
    if chosen.json:
        print(text)
    return 0 if body["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
