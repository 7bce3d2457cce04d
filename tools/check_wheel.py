"""Builds a wheel without the compiled kernels, and finds files of the package that it lacks.

A wheel that leaves out a checkpoint, an image sheet, a kernel's source or a
target's description installs well and fails at the first use. CMake does not
run, so this takes seconds; what it compiles is tested by everything else.

Prints one line a gap and returns 1 if there is any.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILT = (".pyc", ".so")


def expected(root: Path) -> set[str]:
    """Return the path of every file of the package, as a wheel names it.

    >>> "sparseflow/py.typed" in expected(ROOT)
    True
    """
    package = root / "src" / "sparseflow"
    found = (p for p in package.rglob("*") if p.is_file() and p.suffix not in BUILT)
    return {p.relative_to(root / "src").as_posix() for p in found if not any(part[0] == "." for part in p.parts[1:])}


def build(root: Path, folder: Path) -> Path:
    """Build the wheel of a checkout into an empty folder, with the installed build tools.

    Raises:
        CalledProcessError: it cannot be built.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "-C", "wheel.cmake=false", "-w", str(folder), str(root)]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def gaps(wheel: Path, root: Path) -> list[str]:
    """Return one line for each file that the wheel lacks, or holds without content."""
    with zipfile.ZipFile(wheel) as opened:
        held = {info.filename: info.file_size for info in opened.infolist()}
    missing = [f"the wheel has no {name}" for name in sorted(expected(root) - held.keys())]
    empty = [n for n, size in held.items() if not size and n.startswith("sparseflow/") and not n.endswith(".py")]
    kept = {n for n in empty if not (root / "src" / n).stat().st_size}
    return missing + [f"{name} is empty in the wheel" for name in sorted(set(empty) - kept)]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the gaps; return 1 if there are any."""
    parser = argparse.ArgumentParser(description="Check that a wheel holds every file of the package.")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to look at")
    root = parser.parse_args(argv).root
    with tempfile.TemporaryDirectory() as folder:
        found = gaps(build(root, Path(folder)), root)
    for gap in found:
        print(gap)
    print(f"{len(found)} gaps" if found else f"{len(expected(root))} files, all of them in the wheel")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
