import os

import pytest

from sparseflow.errors import DataError
from sparseflow.ir import files
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


def test_a_report_is_written_by_the_one_atomic_write():
    assert write_atomic is files.write_atomic
