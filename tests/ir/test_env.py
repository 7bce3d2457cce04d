from pathlib import Path

import pytest

from sparseflow.ir.env import cache_folder, records_url


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
