"""Bad input is refused in the benchmark as it is for a user, and what is not refused well is counted."""

import pytest

from sparseflow.errors import DataError
from sparseflow.recipes.triseg.bench.faults import fault_checks, refusal
from sparseflow.recipes.triseg.teacher import load_teacher
from tests.triseg_teachers import save_teacher

pytest.importorskip("cmaes")


def test_every_case_is_clear(tmp_path) -> None:
    save_teacher(tmp_path, steps=3)
    checks, found = fault_checks(load_teacher("lenet5", tmp_path))
    assert {name: faults for name, faults in found.items() if faults} == {}
    assert len(checks) == len(found) == 15
    assert all(check.ok for check in checks)
    assert "kill -9 during a search, and again: faults" in {check.name for check in checks}


def test_what_is_wrong_is_told() -> None:
    def fail(error: Exception):
        def work() -> None:
            raise error

        return work

    assert refusal(fail(DataError("a.json is damaged; write it again")), "a.json", "again") == []
    assert refusal(fail(DataError("damaged")), "a.json") == ["the message lacks 'a.json': damaged"]
    assert refusal(fail(KeyError("conv1")), "conv1") == ["an error that is not ours: KeyError: 'conv1'"]
    assert refusal(lambda: None, "word") == ["nothing was raised"]
