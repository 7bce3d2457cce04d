"""Finds modules without a test, tests without a module, and unfinished operator folders.

The rule: `src/sparseflow/a/b.py` is tested by `tests/a/test_b.py`. Leading
underscores of a private module are dropped: `a/_b.py` pairs with
`tests/a/test_b.py` too. `__init__.py` files and data are exempt. An operator
folder holds `__init__.py`, `reference.py` and `README.md`.

Prints one line a gap and returns 1 if there is any.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Suites that belong to no single module.
SUITES = ("faults", "conformance", "browser", "csrc")
WHOLE_TREE = ("test_layout.py", "test_public_api.py")
# Code outside the package whose tests live in a folder of the same name.
SIBLINGS = ("tools", "benchmarks", "examples")
NOT_OPERATORS = ("formats", "codegen")
OPERATOR_FILES = ("__init__.py", "reference.py", "README.md")


def test_path(module: Path) -> Path:
    """Return where the test of a module lives, relative to `tests/`.

    Args:
        module: path of the module relative to its package.

    >>> test_path(Path("ops/_op.py")).as_posix()
    'ops/test_op.py'
    """
    return module.with_name(f"test_{module.stem.lstrip('_')}.py")


def modules(package: Path) -> Iterator[Path]:
    """Yield the modules below a folder that need a test, relative to it."""
    for path in sorted(package.rglob("*.py")):
        if path.name not in ("__init__.py", "__main__.py") and "__pycache__" not in path.parts:
            yield path.relative_to(package)


def untested(root: Path) -> Iterator[str]:
    """Yield one line for each module that has no test of its own."""
    package, tests = root / "src" / "sparseflow", root / "tests"
    for module in modules(package):
        if not (tests / test_path(module)).is_file():
            yield f"src/sparseflow/{module.as_posix()} has no test; write tests/{test_path(module).as_posix()}"
    for module in modules(root / "tools"):
        if not (tests / "tools" / test_path(module)).is_file():
            yield f"tools/{module.as_posix()} has no test; write tests/tools/{test_path(module).as_posix()}"


def orphans(root: Path) -> Iterator[str]:
    """Yield one line for each test file whose module does not exist."""
    tests = root / "tests"
    expected = {test_path(module) for module in modules(root / "src" / "sparseflow")}
    for sibling in SIBLINGS:
        expected |= {Path(sibling) / test_path(module) for module in modules(root / sibling)}
    for path in sorted(tests.rglob("test_*.py")):
        relative = path.relative_to(tests)
        if relative.parts[0] in SUITES or relative.as_posix() in WHOLE_TREE:
            continue
        if relative not in expected:
            yield f"tests/{relative.as_posix()} tests no module of that name; rename it or move it to a suite"


def unfinished(root: Path) -> Iterator[str]:
    """Yield one line for each file that an operator folder lacks."""
    ops = root / "src" / "sparseflow" / "ops"
    for folder in sorted(p for p in ops.glob("*/") if p.is_dir()):
        if folder.name.startswith(("_", ".")) or folder.name in NOT_OPERATORS:
            continue
        for name in OPERATOR_FILES:
            if not (folder / name).is_file():
                yield f"src/sparseflow/ops/{folder.name} has no {name}"
        if not any((root / "tests" / "ops" / folder.name).glob("test_*.py")):
            yield f"src/sparseflow/ops/{folder.name} has no tests; write tests/ops/{folder.name}/"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the gaps; return 1 if there are any."""
    parser = argparse.ArgumentParser(description="Check that modules and tests pair up.")
    parser.add_argument("--root", type=Path, default=ROOT, help="checkout to look at")
    root = parser.parse_args(argv).root
    gaps = [*untested(root), *orphans(root), *unfinished(root)]
    for gap in gaps:
        print(gap)
    count = sum(1 for _ in modules(root / "src" / "sparseflow"))
    print(f"{len(gaps)} gaps" if gaps else f"{count} modules, each with its test")
    return 1 if gaps else 0


if __name__ == "__main__":
    sys.exit(main())
