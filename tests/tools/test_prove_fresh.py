import json
import subprocess

import pytest

from tools import prove_fresh

MAKEFILE = "run:\n\t@test -f ran || echo '==> build tools'\n\t@touch ran\n\ntest:\n\t@{test}\n"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the two commands, in the place of this one."""

    def make(test="true"):
        root = tmp_path / "project"
        root.mkdir()
        (root / "Makefile").write_text(MAKEFILE.format(test=test), encoding="utf-8")
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        for command in (("init", "--quiet"), ("add", "Makefile"), (*identity, "commit", "--quiet", "-m", "first")):
            subprocess.run(["git", *command], cwd=root, check=True)
        monkeypatch.setattr(prove_fresh, "ROOT", root)
        return root

    return make


def test_both_commands_run_twice_in_a_clone(project, capsys):
    root = project()
    assert prove_fresh.main(["--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert [(r["command"], r["round"]) for r in body["runs"]] == [("run", 1), ("test", 1), ("run", 2), ("test", 2)]
    assert [c["target"] for c in body["checks"] if c["unit"] == "s"] == ["<= 600", "<= 900", "<= 120", "<= 600"]
    assert len(body["commit"]) == 40
    assert not (root / "ran").exists()


def test_a_command_that_fails_does_not_hold(project, tmp_path):
    project(test="false")
    out = tmp_path / "fresh.json"
    assert prove_fresh.main(["--commands", "test", "--out", str(out)]) == 1
    held = {(c["name"], c["unit"]): c["ok"] for c in json.loads(out.read_text())["checks"]}
    assert held[("make test in a fresh clone", "exit")] is False
    assert held[("make test again", "s")] is True


def test_a_second_round_that_installs_again_does_not_hold(project, monkeypatch, tmp_path):
    project(test="echo '==> build tools'")
    checks, _ = prove_fresh.prove(tmp_path / "clone", ["test"])
    assert [c.ok for c in checks if c.unit == "steps"] == [False]


def test_too_slow_does_not_hold(project, monkeypatch, tmp_path):
    project()
    monkeypatch.setattr(prove_fresh, "LIMITS_S", dict.fromkeys(prove_fresh.LIMITS_S, 0))
    checks, _ = prove_fresh.prove(tmp_path / "clone", ["run"])
    assert [c.ok for c in checks if c.unit == "s"] == [False, False]
