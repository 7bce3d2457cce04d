import json
import subprocess
import sys

import pytest

from tools import check_pairing, prove_gates

SOUND = {"status": 0, "failed": [], "seconds": 1.0, "tail": ""}


@pytest.fixture
def answers(monkeypatch):
    """Answers of `make test`, in order, in the place of running it; clones are empty folders."""
    given = []
    monkeypatch.setattr(prove_gates, "clone", lambda _source, target, _revision: target.mkdir())
    monkeypatch.setattr(prove_gates, "make_test", lambda *_: given.pop(0))
    monkeypatch.setattr(
        prove_gates, "FAULTS", (prove_gates.Fault(name="f", gates=("pairing",), plant=lambda root: None),)
    )
    return given


def test_a_fault_that_its_gate_catches_holds(answers, capsys):
    answers += [SOUND, {**SOUND, "status": 2, "failed": ["pairing", "mypy-strict"]}]
    assert prove_gates.main(["--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [c["ok"] for c in body["checks"]] == [True, True, True]
    assert body["quick"] is False


@pytest.mark.parametrize(
    "found",
    [
        [SOUND, SOUND],
        [SOUND, {**SOUND, "status": 2, "failed": ["pytest"]}],
        [{**SOUND, "status": 2, "failed": ["pairing"]}, {**SOUND, "status": 2, "failed": ["pairing"]}],
    ],
    ids=["nobody caught it", "another gate failed", "it failed before"],
)
def test_a_fault_that_slips_through_does_not_hold(answers, found, tmp_path):
    answers += found
    out = tmp_path / "gates.json"
    assert prove_gates.main(["--quick", "--out", str(out)]) == 1
    assert not json.loads(out.read_text())["ok"]


def test_the_faults_are_the_promised_three_and_each_is_one(tmp_path):
    assert [f.gates for f in prove_gates.FAULTS] == [("lint-imports",), ("pairing",), ("doctests",)]
    root = tmp_path / "clone"
    prove_gates.clone(prove_gates.ROOT, root)
    before = set(check_pairing.untested(root))
    for fault in prove_gates.FAULTS:
        fault.plant(root)
    assert len(set(check_pairing.untested(root)) - before) == 1
    text = (root / "src/sparseflow/ir/plan.py").read_text(encoding="utf-8")
    compile(text, "plan.py", "exec")
    assert "from sparseflow import api" in text


def test_a_clone_runs_its_own_code_with_borrowed_packages(tmp_path):
    root = tmp_path / "clone"
    prove_gates.clone(prove_gates.ROOT, root)
    code = "import sparseflow, pytest; from sparseflow.ops import _native; print(sparseflow.__file__, _native.__file__)"
    done = subprocess.run([root / ".venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count(str(root / "src")) == 2
    assert (root / ".venv/bin/lint-imports").read_text(encoding="utf-8").startswith(f"#!{root}")
    assert (root / ".venv/.dev").exists()
    assert prove_gates.make_test(root, ["ruff-check"])["status"] in (0, 2)
    assert sys.prefix != str(root / ".venv")
