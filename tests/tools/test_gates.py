import sys

import pytest

from tools import gates
from tools.gates import Gate

GOOD = Gate(name="good", command=(sys.executable, "-c", "print('3 passed')"))
BAD = Gate(name="bad", command=(sys.executable, "-c", "import sys; print('1 failed'); sys.exit(2)"))


def test_the_outcome_of_a_gate_is_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = gates.run(BAD)
    assert (outcome.code, outcome.last_line) == (2, "1 failed")
    assert "<== bad: FAILED (2)" in capsys.readouterr().out


def test_one_failing_gate_fails_the_run_but_not_the_other_gates(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gates, "gates", lambda jobs: (BAD, GOOD))
    assert gates.main([]) == 1
    out = capsys.readouterr().out
    assert "failed: bad" in out
    assert out.rstrip().endswith("3 passed")


def test_green_gates_pass(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(gates, "gates", lambda jobs: (GOOD, BAD))
    assert gates.main(["--only", "good"]) == 0
    assert "every gate is green" in capsys.readouterr().out


def test_an_unknown_gate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        gates.main(["--only", "nonesuch"])
    assert "no gate is called" in capsys.readouterr().err


def test_the_promised_gates_are_all_there() -> None:
    names = [g.name for g in gates.gates(2)]
    assert names[-1] == "pytest"
    assert {"ruff-check", "ruff-format", "mypy-strict", "lint-imports", "doctests", "pairing", "docs-build"} < set(
        names
    )
