"""The source files that a figure hangs on, and their git object ids: as they lie here, or at a commit.

A commit changes with every line of a guide; what a benchmark measures does not. So a record names, beside its commit,
the files that it came from: the modules that measure, and whatever these import, anywhere in a file. What is imported
through a package's `__init__.py` is followed to the module that defines it; the `__init__.py` itself counts only where
it defines what is taken. Files that are no Python, as kernels and templates, count with the modules of their folder,
and all of `csrc/` with the module that is compiled from it.
"""

import ast
import hashlib
import io
import subprocess
import tarfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path, PurePosixPath

from sparseflow.errors import DataError

__all__ = ["Tree", "differences", "ids", "of_commit", "on_disk", "used_by"]

# Path in the repository, as "src/sparseflow/errors.py", to content.
Tree = Mapping[str, bytes]
PLACES = ("src/sparseflow", "benchmarks", "tests/torchvision_shim.py", "csrc", "CMakeLists.txt")
COMPILED = ("csrc/", "CMakeLists.txt")
# Built, or read by people alone; data sets and checkpoints are named in records by themselves.
NO_SOURCE = (".pyc", ".so", ".pyd", ".md", ".sh", ".typed")
CODE = (".py", ".pyi")
DATA = ("src/sparseflow/assets/", "benchmarks/results/", "benchmarks/checkpoints/")


def on_disk(root: Path) -> dict[str, bytes]:
    """Return the sources of a checkout as they lie there, committed or not.

    Args:
        root: the checkout, or an archive of one without git.
    """
    places = [root / place for place in PLACES]
    files = [f for place in places for f in (place.rglob("*") if place.is_dir() else [place]) if f.is_file()]
    names = {f.relative_to(root).as_posix(): f for f in sorted(files)}
    return {name: file.read_bytes() for name, file in names.items() if _counts(name)}


def of_commit(root: Path, commit: str) -> dict[str, bytes]:
    """Return the sources of a commit.

    Args:
        root: a folder of the repository.
        commit: any name that git knows.

    Raises:
        DataError: there is no repository, or it does not hold the commit.
    """
    try:
        top = _git(root, "rev-parse", "--show-toplevel").decode().strip()
        there = _git(Path(top), "ls-tree", "--name-only", f"{commit}^{{commit}}", "--", *PLACES).decode().splitlines()
        packed = _git(Path(top), "archive", "--format=tar", f"{commit}^{{commit}}", "--", *there)
    except (OSError, subprocess.CalledProcessError) as e:
        said = getattr(e, "stderr", b"").decode(errors="replace").strip()
        raise DataError(f"the sources of commit {commit!r} cannot be read: {said or e}; run in a full clone") from e
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        files = {m.name: archive.extractfile(m) for m in archive if m.isfile() and _counts(m.name)}
        return {name: file.read() for name, file in files.items() if file is not None}


def used_by(tree: Tree, entries: Iterable[str], left_out: Collection[str] = ()) -> tuple[str, ...]:
    """Return the files that modules are made of, with those of all that they import, in order of their paths.

    Args:
        tree: all sources.
        entries: dotted names of the modules.
        left_out: paths that do not count, and whose imports are not followed.

    Raises:
        DataError: the tree holds no module of that name.
    """
    modules = {_dotted(path): path for path in tree if path.endswith(CODE)}
    todo = list(entries)
    for name in todo:
        if name not in modules:
            raise DataError(f"there is no module {name} among the sources")
    found: set[str] = set()
    while todo:
        path = modules[todo.pop()]
        if path not in found and path not in left_out:
            found.add(path)
            todo += _imported(tree, modules, path)
    folders = {PurePosixPath(path).parent for path in found}
    beside = {p for p in tree if PurePosixPath(p).parent in folders and not p.endswith(CODE)}
    # A compiled module is known by its stub.
    compiled = {p for p in tree if p.startswith(COMPILED)} if any(p.endswith(".pyi") for p in found) else set()
    return tuple(sorted((found | beside | compiled) - set(left_out)))


def ids(tree: Tree, paths: Iterable[str]) -> dict[str, str]:
    r"""Return the git object id of each file, as `git rev-parse COMMIT:PATH` prints it.

    >>> ids({"a": b"hello\n"}, ["a"])
    {'a': 'ce013625030ba8dba906f756967f9e9ca394464a'}
    """
    return {path: hashlib.sha1(b"blob %d\0" % len(tree[path]) + tree[path]).hexdigest() for path in paths}


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return a line for each file that differs, with both ids.

    >>> differences({"a": "1", "b": "2"}, {"a": "1", "b": "3", "c": "4"})
    ['b: 2 and 3', 'c: none and 4']
    """
    paths = sorted(p for p in ours.keys() | theirs.keys() if ours.get(p) != theirs.get(p))
    return [f"{p}: {ours.get(p, 'none')} and {theirs.get(p, 'none')}" for p in paths]


def _git(folder: Path, *command: str) -> bytes:
    return subprocess.run(["git", *command], cwd=folder, capture_output=True, check=True).stdout


def _counts(path: str) -> bool:
    return not path.endswith(NO_SOURCE) and not path.startswith(DATA)


def _dotted(path: str) -> str:
    return (
        path.removeprefix("src/").removesuffix(".pyi").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    )


@lru_cache(maxsize=4096)
def _parsed(source: bytes) -> ast.Module:
    return ast.parse(source)


def _imported(tree: Tree, modules: Mapping[str, str], path: str) -> Iterator[str]:
    """Yield the modules of the tree that a file imports, anywhere in it."""
    parsed = _parsed(tree[path])
    for node in ast.walk(parsed):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in modules)
        elif isinstance(node, ast.ImportFrom) and (package := node.module):
            for alias in node.names:
                inner = f"{package}.{alias.name}"
                if modules.get(inner, "").endswith("/__init__.py"):
                    yield from _taken(tree, modules, parsed, inner, alias.asname or alias.name)
                elif package in modules or inner in modules:
                    yield _home(tree, modules, package, alias.name)


def _taken(tree: Tree, modules: Mapping[str, str], parsed: ast.Module, package: str, name: str) -> Iterator[str]:
    """Yield the homes of the attributes that a file takes of a package; the package if it is used in another way."""
    taken = {
        id(n.value): n.attr
        for n in ast.walk(parsed)
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.value.id == name
    }
    if not taken or any(isinstance(n, ast.Name) and n.id == name and id(n) not in taken for n in ast.walk(parsed)):
        yield package
    yield from (_home(tree, modules, package, attribute) for attribute in taken.values())


def _home(tree: Tree, modules: Mapping[str, str], package: str, name: str) -> str:
    """Return the module that defines what a package passes on under a name."""
    if f"{package}.{name}" in modules:
        return f"{package}.{name}"
    if modules[package].endswith("/__init__.py"):
        for node in ast.walk(_parsed(tree[modules[package]])):
            if isinstance(node, ast.ImportFrom) and (source := node.module) in modules:
                for alias in node.names:
                    if name == (alias.asname or alias.name):
                        return _home(tree, modules, str(source), alias.name)
    return package
