import sqlite3

import pytest
from sqlalchemy import text

from sparseflow.errors import ConfigError, RecordError
from sparseflow.records import Store
from sparseflow.records._connection import connect, mend, normal


@pytest.mark.parametrize("url", ["", "nonsense://x", "://"])
def test_urls_that_cannot_be_understood(url):
    with pytest.raises(ConfigError, match="URL"):
        Store(url)


def test_a_url_that_cannot_be_understood_keeps_its_password():
    with pytest.raises(ConfigError, match=r"//\*\*\*@host:port/name") as caught:
        normal("postgresql://me:secret@host:port/name")
    assert "secret" not in str(caught.value)


def test_a_path_becomes_a_url(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(normal("r.sqlite")) == f"sqlite:///{tmp_path}/r.sqlite"
    assert str(normal("sqlite:///r.sqlite")) == "sqlite:///r.sqlite"
    assert str(normal("postgresql+psycopg://host/name")) == "postgresql+psycopg://host/name"


def test_a_path_with_odd_signs(tmp_path):
    Store(tmp_path / "with space" / "r%20?#.sqlite")
    assert [p.name for p in (tmp_path / "with space").glob("*.sqlite")] == ["r%20?#.sqlite"]


def test_writers_wait_and_readers_do_not_block(tmp_path):
    engine = connect(normal(str(tmp_path / "r.sqlite")))
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(text("PRAGMA busy_timeout")) == 30_000
    engine.dispose()


def test_a_write_takes_the_lock_at_its_beginning(tmp_path):
    path = tmp_path / "r.sqlite"
    engine = connect(normal(str(path)))
    other = sqlite3.connect(path, timeout=0)
    with engine.execution_options(immediate=True).begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()
    engine.dispose()


def test_the_folder_is_made_or_named(tmp_path):
    connect(normal(str(tmp_path / "a" / "b" / "r.sqlite")))
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match="cannot make folder"):
        connect(normal(str(tmp_path / "file" / "r.sqlite")))


@pytest.mark.parametrize(
    ("complaint", "mended"),
    [
        ("file is not a database", "mv r.sqlite r.sqlite.damaged"),
        ("database disk image is malformed", "mv r.sqlite r.sqlite.damaged"),
        ("unable to open database file", "SPARSEFLOW_RECORDS"),
        ("database is locked", "try again"),
        ("no such column", "check the URL"),
    ],
)
def test_every_complaint_has_its_mend(complaint, mended):
    said = mend(complaint, normal("sqlite:///r.sqlite"))
    assert complaint in said
    assert mended in said
