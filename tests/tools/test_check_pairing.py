from pathlib import Path

import pytest

from tools import check_pairing

OP = "src/sparseflow/ops/lif"


def make(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    make(
        tmp_path,
        "src/sparseflow/__init__.py",
        "src/sparseflow/py.typed",
        "src/sparseflow/api.py",
        "src/sparseflow/ops/_op.py",
        f"{OP}/__init__.py",
        f"{OP}/reference.py",
        f"{OP}/README.md",
        "tests/test_api.py",
        "tests/ops/test_op.py",
        "tests/ops/lif/test_reference.py",
        "tests/faults/test_spiking_halo.py",
    )
    return tmp_path


def test_a_paired_tree_passes(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_pairing.main(["--root", str(tree)]) == 0
    assert "3 modules" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("remove", "says"),
    [
        ("tests/test_api.py", "src/sparseflow/api.py has no test; write tests/test_api.py"),
        ("tests/ops/test_op.py", "src/sparseflow/ops/_op.py has no test; write tests/ops/test_op.py"),
        ("src/sparseflow/api.py", "tests/test_api.py tests no module of that name"),
        (f"{OP}/README.md", "src/sparseflow/ops/lif has no README.md"),
        (f"{OP}/__init__.py", "src/sparseflow/ops/lif has no __init__.py"),
    ],
)
def test_a_gap_fails_and_is_named(tree: Path, capsys: pytest.CaptureFixture[str], remove: str, says: str) -> None:
    (tree / remove).unlink()
    assert check_pairing.main(["--root", str(tree)]) == 1
    assert says in capsys.readouterr().out


def test_an_operator_needs_a_reference_and_tests(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tree, "src/sparseflow/ops/spmv/__init__.py", "src/sparseflow/ops/formats/__init__.py")
    assert check_pairing.main(["--root", str(tree)]) == 1
    out = capsys.readouterr().out
    assert "ops/spmv has no reference.py" in out
    assert "ops/spmv has no tests" in out
    assert "formats" not in out


def test_tools_need_tests(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tree, "tools/measure.py")
    assert check_pairing.main(["--root", str(tree)]) == 1
    assert "write tests/tools/test_measure.py" in capsys.readouterr().out
