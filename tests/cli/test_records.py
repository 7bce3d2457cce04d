import json

import pytest
from typer.testing import CliRunner

from sparseflow.cli import app
from sparseflow.records import Key, Record, Store


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "records.sqlite"
    with Store(path) as opened:
        for n, decision in enumerate(("dense", "event")):
            key = Key(layer="conv", decision=decision, target="cpu", protocol="p")
            opened.append(Record(key=key, name=f"layer {n}", value=0.5 + n))
        opened.append(Record(key=Key(layer="fc", decision="event", target="h200", protocol="p"), failure="no device"))
    return str(path)


def _run(*arguments):
    return CliRunner().invoke(app, ["records", *arguments])


def test_list_shows_a_table_newest_first(store):
    output = _run("list", "--store", store).stdout
    assert output.index("no device") < output.index("layer 1") < output.index("layer 0")


def test_list_filters_and_speaks_json(store):
    body = json.loads(_run("list", "--store", store, "--target", "cpu", "--limit", "1", "--json").stdout)
    assert [r["name"] for r in body] == ["layer 1"]
    assert len(json.loads(_run("list", "--store", store, "--failed", "--json").stdout)) == 1


def test_an_empty_store_says_so(tmp_path):
    assert "no records in" in _run("list", "--store", str(tmp_path / "new.sqlite")).stdout


def test_show(store):
    assert "layer 0" in _run("show", "1", "--store", store).stdout
    assert json.loads(_run("show", "1", "--store", store, "--json").stdout)["value"] == 0.5


def test_a_missing_record_is_named(store):
    result = _run("show", "99", "--store", store)
    assert result.exit_code == 2
    assert "no record 99" in result.stderr


def test_export(store, tmp_path):
    assert "3 records" in _run("export", str(tmp_path / "all.csv"), "--store", store).stdout
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 4


def test_an_unknown_format_is_named(store, tmp_path):
    result = _run("export", str(tmp_path / "all.xlsx"), "--store", store)
    assert result.exit_code == 2
    assert "xlsx" in result.stderr


def test_a_file_that_is_no_store_is_named(tmp_path):
    (tmp_path / "x.sqlite").write_text("not a database, but long enough to be looked at as one" * 20)
    result = _run("list", "--store", str(tmp_path / "x.sqlite"))
    assert result.exit_code == 2
    assert "x.sqlite" in result.stderr
