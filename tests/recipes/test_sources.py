import subprocess
from os.path import normpath
from pathlib import Path

import grimp
import pytest

from sparseflow.errors import DataError
from sparseflow.recipes.sources import differences, ids, of_commit, on_disk, used_by

TREE = {
    "src/sparseflow/__init__.py": b"",
    "src/sparseflow/errors.py": b"class E: pass",
    "src/sparseflow/ops/__init__.py": b"from sparseflow.ops.a import f as f\nfrom sparseflow.ops import b\nALL = f, b",
    "src/sparseflow/ops/a.py": b"from sparseflow.errors import E\ndef f(): pass",
    "src/sparseflow/ops/b/__init__.py": b"def g(): import sparseflow.late",
    "src/sparseflow/ops/b/kernel.cu": b"__global__",
    "src/sparseflow/ops/_native.pyi": b"",
    "src/sparseflow/native.py": b"from sparseflow.ops import _native",
    "csrc/a.cpp": b"",
    "src/sparseflow/late.py": b"",
    "src/sparseflow/by_name.py": b"from sparseflow.ops import f",
    "src/sparseflow/by_attribute.py": b"from sparseflow import ops\nops.b.g()",
    "src/sparseflow/whole.py": b"from sparseflow import ops\nshow(ops.f, ops)",
    "src/sparseflow/defined.py": b"from sparseflow.ops import ALL",
    "benchmarks/x.py": b"import json\nfrom sparseflow.by_name import f",
}
B = ("ops/b/__init__.py", "ops/b/kernel.cu")
ALL = ("errors.py", "ops/__init__.py", "ops/a.py", *B)


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("sparseflow.by_name", ("by_name.py", "errors.py", "ops/a.py")),
        ("sparseflow.by_attribute", ("by_attribute.py", "late.py", *B)),
        ("sparseflow.whole", ("late.py", "whole.py", *ALL)),
        ("sparseflow.defined", ("defined.py", "late.py", *ALL)),
        ("sparseflow.errors", ("errors.py",)),
        ("sparseflow.native", ("../../csrc/a.cpp", "native.py", "ops/_native.pyi")),
    ],
)
def test_imports_are_followed_to_the_modules_that_define_what_is_taken(name, files):
    assert used_by(TREE, [name]) == tuple(sorted(normpath(f"src/sparseflow/{f}") for f in files))


def test_what_is_left_out_is_not_followed_and_other_folders_count():
    got = used_by(TREE, ["benchmarks.x"], ("src/sparseflow/ops/a.py",))
    assert got == ("benchmarks/x.py", "src/sparseflow/by_name.py")


def test_an_unknown_module_is_named():
    with pytest.raises(DataError, match=r"sparseflow\.nowhere"):
        used_by(TREE, ["sparseflow.nowhere"])


@pytest.fixture
def checkout(tmp_path):
    for path, text in {**TREE, "benchmarks/results/x.json": b"{}", "src/sparseflow/a.so": b"built"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(text)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "torchvision_shim.py").write_bytes(b"")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def test_a_commit_and_the_disk_give_the_same_tree_and_the_ids_of_git(checkout):
    tree = of_commit(checkout / "src", "HEAD")
    assert tree == on_disk(checkout)
    assert tree == {**TREE, "tests/torchvision_shim.py": b""}
    path = "src/sparseflow/ops/a.py"
    told = subprocess.run(
        ["git", "rev-parse", f"HEAD:{path}"], cwd=checkout, capture_output=True, check=True, text=True
    )
    assert ids(tree, [path]) == {path: told.stdout.strip()}
    (checkout / path).write_text("changed")
    (changed,) = differences(ids(tree, tree), ids(now := on_disk(checkout), now))
    assert changed.startswith(f"{path}: {told.stdout.strip()} and ")


def test_an_unknown_commit_and_a_folder_without_a_repository_are_told(checkout, tmp_path_factory):
    with pytest.raises(DataError, match="commit 'abc'"):
        of_commit(checkout, "abc")
    with pytest.raises(DataError, match="full clone"):
        of_commit(tmp_path_factory.mktemp("bare"), "HEAD")


def test_the_project_agrees_with_another_reader_of_imports():
    """Whatever grimp sees imported is among the sources, or is a package through which names are passed on."""
    tree = on_disk(Path(__file__).parents[2])
    found = set(used_by(tree, ["sparseflow.recipes.spike_bench.gpu.network"]))
    graph = grimp.build_graph("sparseflow")
    modules = {p.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", "."): p for p in tree}
    doors = {m for m, p in modules.items() if p.endswith("/__init__.py")}
    for path in found:
        if path.endswith(".py"):
            name = path.removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            for imported in graph.find_modules_directly_imported_by(name):
                assert modules[imported] in found or imported in doors, (path, imported)
