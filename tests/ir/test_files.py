import os

import pytest

from sparseflow.errors import DataError
from sparseflow.ir.files import write_atomic


def test_the_whole_file_is_replaced(tmp_path):
    path = tmp_path / "x.txt"
    write_atomic(path, "old" * 100)
    assert write_atomic(path, "new µ") == path
    assert path.read_text(encoding="utf-8") == "new µ"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_write_keeps_the_old_file_and_no_remains(tmp_path, monkeypatch, error):
    path = write_atomic(tmp_path / "x.txt", b"old")

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else DataError):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"cannot write .*missing"):
        write_atomic(tmp_path / "missing" / "x", "x")
