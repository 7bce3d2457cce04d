import sys

import pytest

from sparseflow.errors import UnsupportedError
from sparseflow.search._extra import extra


def test_what_is_installed_is_imported():
    assert extra("json", "a test").loads("1") == 1


def test_what_is_missing_is_named_with_the_mend():
    with pytest.raises(UnsupportedError, match=r"a test needs package nosuchthing: pip install 'sparseflow\[search\]'"):
        extra("nosuchthing", "a test")


def test_an_error_inside_a_package_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "brokenthing.py").write_text("import nosuchthing\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(ModuleNotFoundError, match="nosuchthing"):
        extra("brokenthing", "a test")
