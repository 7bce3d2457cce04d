import re
from pathlib import Path

import pytest

import sparseflow.ir.env
from sparseflow.ir.env import cache_folder, cxx, inherited, processes, records_url


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPARSEFLOW_CACHE", "XDG_CACHE_HOME", "SPARSEFLOW_RECORDS"):
        monkeypatch.delenv(name, raising=False)


def test_the_cache_is_found_in_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == Path.home() / ".cache" / "sparseflow"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sparseflow"
    monkeypatch.setenv("SPARSEFLOW_CACHE", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"


def test_records_live_in_the_cache_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARSEFLOW_CACHE", str(tmp_path))
    assert records_url() == str(tmp_path / "records.sqlite")
    monkeypatch.setenv("SPARSEFLOW_RECORDS", "postgresql+psycopg://host/name")
    assert records_url() == "postgresql+psycopg://host/name"


def test_the_compiler_is_the_one_that_cxx_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "clang++-19")
    assert cxx() == "clang++-19"
    monkeypatch.delenv("CXX")
    assert cxx() == ""


def test_processes_are_those_of_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert processes() == (1, 1)
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert processes() == (8, 4)


def test_no_other_file_reads_the_environment() -> None:
    here = Path(sparseflow.ir.env.__file__)
    files = [p for p in here.parents[1].rglob("*.py") if p != here]
    found = [p.name for p in files if re.search(r"\bos\.(environ|getenv)\b", p.read_text())]
    assert found == []


def test_a_child_inherits_the_environment_and_what_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSEFLOW_CACHE", "here")
    made = inherited(THREADS="1", SPARSEFLOW_CACHE="there")
    assert made["THREADS"] == "1"
    assert made["SPARSEFLOW_CACHE"] == "there"
    assert made["PATH"]
