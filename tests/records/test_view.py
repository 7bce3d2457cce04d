import csv
import json

import pytest
from rich.console import Console

from sparseflow.errors import ConfigError, RecordError
from sparseflow.records import Key, Record, Store, export, list_json, list_table, show_json, show_table

KEY = Key(layer="0123456789abcdef", decision="d", target="cpu-1234", protocol="rounds=3")


@pytest.fixture
def store():
    store = Store("sqlite://")
    store.append(Record(key=KEY, value=2.5e-3, name="layer1.conv", decision={"kernel": "event"}, stats={"iqr_s": 1e-4}))
    store.append(Record(key=KEY, failure='no "memory" [/b], sorry', run="r"))
    store.append(Record(key=KEY, value=12.0, unit="J"))
    return store


def text(renderable):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(renderable)
        return console.export_text()


def test_the_list_tells_what_and_how_much(store):
    shown = text(list_table(store.records(), title=store.place))
    failure = 'failed: no "memory" [/b], sorry'
    for part in ("record store", "layer1.conv", "kernel=event", "2.5 ms", failure, "12 J", "cpu-1"):
        assert part in shown
    assert shown.index("12 J") < shown.index("2.5 ms")


def test_one_record_is_shown_in_full(store):
    shown = text(show_table(store.get(1)))
    for part in ("layer1.conv", "2.5 ms", "iqr_s", "0.0001", "key: protocol", "rounds=3", '{"kernel": "event"}'):
        assert part in shown


@pytest.mark.parametrize(("value", "shown"), [(3.0, "3 s"), (4.2e-5, "42 µs"), (7e-9, "7 ns"), (0.0, "0 ns")])
def test_times_have_a_fitting_unit(value, shown):
    assert shown in text(show_table(Record(key=KEY, value=value)))


def test_json_can_be_read_back(store):
    assert [Record.from_dict(body) for body in json.loads(list_json(store))] == list(store)
    assert Record.from_dict(json.loads(show_json(store.get(2)))) == store.get(2)


def test_exported_files_hold_every_record(store, tmp_path):
    assert export(store, tmp_path / "new" / "r.json") == 3
    assert (tmp_path / "new" / "r.json").stat().st_mode & 0o777 == 0o644
    assert [Record.from_dict(x) for x in json.loads((tmp_path / "new" / "r.json").read_text())] == list(store)
    assert export(store, tmp_path / "r.txt", format="csv") == 3
    with (tmp_path / "r.txt").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == ["1", "2", "3"]
    assert float(lines[0]["value"]) == 2.5e-3
    assert json.loads(lines[0]["decision"]) == {"kernel": "event"}
    assert lines[1]["failure"] == 'no "memory" [/b], sorry'
    assert lines[1]["decision_key"] == "d"
    assert {p.name for p in tmp_path.iterdir()} == {"new", "r.txt"}


def test_a_bad_export_names_the_mend(store, tmp_path):
    with pytest.raises(ConfigError, match=r"as 'xls'; end the path in \.json or \.csv"):
        export(store, tmp_path / "r.xls")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(RecordError, match="cannot write"):
        export(store, tmp_path / "folder.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["folder.csv"]


def test_an_empty_store_exports_an_empty_list(tmp_path):
    assert export(Store("sqlite://"), tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text()) == []
