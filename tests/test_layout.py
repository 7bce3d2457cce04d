"""The shape of the tree: names, sizes and habits that reviews would else repeat."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("src", "tests", "tools", "benchmarks", "examples")
PROSE = ("docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "configs", ".ci")
NAMELESS = {"utils", "util", "common", "core", "misc", "helpers", "new", "final", "stuff"}
UNSAFE = {"pickle.load", "pickle.loads", "sys.path.insert", "sys.path.append", "eval", "exec"}
BINARIES = {".o", ".so", ".pkl", ".pt", ".pth"}
MAX_LINES = 500
MAX_COMMENTS_PER_100 = 8
THIS = Path(__file__).resolve()


def python_files() -> list[Path]:
    found = [p for top in CODE for p in sorted((ROOT / top).rglob("*.py"))]
    return [p for p in found if "__pycache__" not in p.parts and p.resolve() != THIS]


def native_files() -> list[Path]:
    return sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".cpp", ".hpp", ".h", ".inc"))


def prose_files() -> list[Path]:
    tops = [ROOT / name for name in PROSE]
    found = [p for top in tops for p in ([top] if top.is_file() else sorted(top.rglob("*")))]
    return [p for p in found if p.is_file() and p.suffix in (".md", ".yml", ".yaml", ".toml", "")]


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def weights_only(call: ast.Call) -> bool:
    return any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)


def test_no_file_or_folder_has_a_nameless_name() -> None:
    bad = []
    for path in [*python_files(), *native_files()]:
        for part in path.relative_to(ROOT).with_suffix("").parts:
            stem = part.lstrip("_").removeprefix("test_")
            if stem in NAMELESS or re.search(r"(^|_)v\d+$", stem):
                bad.append(short(path))
    assert not bad, f"say what they hold instead: {bad}"


def test_files_stay_readable() -> None:
    sizes = {short(p): len(p.read_text().splitlines()) for p in [*python_files(), *native_files()]}
    long = {name: lines for name, lines in sizes.items() if lines > MAX_LINES}
    assert not long, f"more than {MAX_LINES} lines: {long}"


def test_nothing_unsafe_is_called() -> None:
    bad = []
    for path in python_files():
        for name, call in calls(ast.parse(path.read_text())):
            trusted = path.is_relative_to(ROOT / "tests") and name == "pickle.loads"
            if not trusted and (name in UNSAFE or (name == "torch.load" and not weights_only(call))):
                bad.append(f"{short(path)}:{call.lineno} calls {name}")
    assert not bad, bad


def test_modules_import_without_side_effects_on_the_path() -> None:
    bad = [short(p) for p in python_files() if re.search(r"^\s*from \S+ import \*", p.read_text(), re.MULTILINE)]
    assert not bad, f"star imports: {bad}"


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_nothing_is_left_for_later(word: str) -> None:
    pattern = re.compile(rf"\b{word}\b")
    bad = [short(p) for p in [*python_files(), *native_files(), *prose_files()] if pattern.search(p.read_text())]
    assert not bad, f"{word} in {bad}"


def test_nothing_points_outside_the_checkout() -> None:
    pattern = re.compile(r"\.\./shared|/work/|/home/\w+|/root/")
    bad = [short(p) for p in [*python_files(), *native_files(), *prose_files()] if pattern.search(p.read_text())]
    assert not bad, f"paths of one machine in {bad}"


def test_comments_are_few() -> None:
    dense = {}
    for path in python_files():
        text = path.read_text()
        lines = sum(1 for line in text.splitlines() if line.strip())
        comments = sum(
            1
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT and not token.string.startswith(("# type:", "# noqa", "#!"))
        )
        if lines >= 40 and 100 * comments / lines > MAX_COMMENTS_PER_100:
            dense[short(path)] = round(100 * comments / lines, 1)
    assert not dense, f"comments per 100 lines, at most {MAX_COMMENTS_PER_100}: {dense}"


def test_no_binaries_in_source_folders() -> None:
    bad = [short(p) for top in ("src", "csrc") for p in (ROOT / top).rglob("*") if p.suffix in BINARIES]
    assert not bad, bad
