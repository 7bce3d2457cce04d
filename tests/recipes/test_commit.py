import subprocess

from sparseflow.recipes import commit as module


def test_the_commit_is_a_hash_or_none(monkeypatch):
    found = module.commit()
    assert found is None or (len(found) == 40 and int(found, 16) >= 0)

    def fails(*args, **kwargs):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", fails)
    assert module.commit() is None
