from types import SimpleNamespace

import pytest

from benchmarks import run


@pytest.fixture
def calls(monkeypatch):
    made = []
    codes = iter([])

    def fake(command, check):
        made.append([str(c) for c in command])
        return SimpleNamespace(returncode=next(fake.codes))

    fake.codes = codes
    monkeypatch.setattr(run.subprocess, "run", fake)
    return made, fake


def test_no_number_is_taken_while_tests_are_red(calls):
    made, fake = calls
    fake.codes = iter([1])
    assert run.main(["spike-cpu"]) == 1
    assert len(made) == 1
    assert "pytest" in made[0]


def test_the_record_goes_to_results_and_options_are_handed_on(calls):
    made, fake = calls
    fake.codes = iter([0, 3])
    assert run.main(["spike-cpu", "--", "--threads", "1"]) == 3
    command = made[1]
    assert command[command.index("--out") + 1].endswith("results/spike_cpu.json")
    assert command[-2:] == ["--threads", "1"]


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        run.main(["nothing"])
    assert "spike-cpu" in capsys.readouterr().err
