import os

import pytest

from sparseflow.errors import DataError
from sparseflow.report import files as module
from sparseflow.report import prepare_folder, write_atomic


def test_prepare_folder_makes_parents_and_leaves_nothing(tmp_path):
    folder = prepare_folder(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []


def test_prepare_folder_refuses_a_file(tmp_path):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(DataError, match=r"cannot write to run folder .*taken: it is a file; choose another"):
        prepare_folder(tmp_path / "taken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_prepare_folder_refuses_a_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot write to run folder"):
        prepare_folder(tmp_path / "x")


def test_prepare_folder_refuses_a_pseudo_file_system():
    with pytest.raises(DataError, match="cannot write to run folder"):
        prepare_folder("/proc/sparseflow-run")


def test_prepare_folder_refuses_no_name():
    with pytest.raises(DataError, match="has no name"):
        prepare_folder("")


def test_write_atomic_replaces_the_whole_file(tmp_path):
    path = tmp_path / "x.txt"
    write_atomic(path, "old" * 100)
    assert write_atomic(path, "new µ") == path
    assert path.read_text(encoding="utf-8") == "new µ"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_keeps_the_old_file_and_no_remains(tmp_path, monkeypatch, error):
    path = write_atomic(tmp_path / "x.txt", b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(module.os, "replace", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_write_atomic_names_a_missing_folder(tmp_path):
    with pytest.raises(DataError, match="cannot write"):
        write_atomic(tmp_path / "missing" / "x", "x")
