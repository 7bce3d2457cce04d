import json

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.forecast import table_of, train_forecaster
from tests.forecast_runs import small_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for more in ({"seed": 1}, {"seed": 2}, {"forecast_len": 3}):
        train_forecaster(small_config(folder, epochs=1, **more), progress=False)
    return folder / "out"


def test_records_become_one_table(folder):
    body = table_of([folder])
    assert [(t["task"], t["seeds"]) for t in body["tasks"]] == [("waves_3", [2021]), ("waves_4", [1, 2])]
    records = {p.parent.name: json.loads(p.read_text()) for p in folder.rglob("record.json")}
    run = body["runs"][1]
    record = records["waves_4_official_seed1"]
    assert (run["mse"], run["val_mae"], run["commit"], run["processes"]) == (
        record["test"]["mse"],
        record["val"]["mae"],
        record["commit"],
        1,
    )
    assert body["tasks"][1]["mae"] == pytest.approx(sum(r["mae"] for r in body["runs"][1:]) / 2)
    assert body["versions"] == record["versions"]
    assert body["environment"]["Device"] == record["device"]
    assert body["environment"]["torch"] == record["versions"]["torch"]
    assert body["environment"]["Commit"] == (record["commit"] or "unknown")[:12]
    assert json.loads(json.dumps(body))["runs"][1]["config"]["model_args"] == record["config"]["model_args"]


def test_single_files_do_too(folder):
    file = next(folder.rglob("waves_3*/record.json"))
    assert [t["windows"] for t in table_of([file])["tasks"]] == [json.loads(file.read_text())["test"]["windows"]]


def test_trainings_of_one_task_with_other_settings_are_not_mixed(folder, tmp_path):
    record = json.loads(next(folder.rglob("waves_4*seed1/record.json")).read_text())
    record["config"]["ema"] = 0.9
    (tmp_path / "record.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"waves_4 differ in ema 0\.0 and 0\.9"):
        table_of([folder, tmp_path])
    del record["config"]["ema"]
    (tmp_path / "record.json").write_text(json.dumps(record))
    assert table_of([folder, tmp_path])["tasks"][1]["seeds"] == [1, 1, 2]


def test_a_table_is_read_again(folder, tmp_path):
    first, table = table_of([folder]), tmp_path / "t.json"
    table.write_text(json.dumps(first))
    assert table_of([table]) == first
    record = next(folder.rglob("waves_3*/record.json"))
    assert table_of([table, record])["tasks"][0]["seeds"] == [2021, 2021]
    del first["runs"][0]["val_mae"]
    table.write_text(json.dumps(first))
    with pytest.raises(DataError, match=r"t\.json is no record .* no table.*val_mae"):
        table_of([table])


def test_settings_are_compared_on_val(folder, tmp_path):
    others = table_of([folder])
    for run in others["runs"]:
        run["val_mae"] *= 2
    (tmp_path / "t.json").write_text(json.dumps(others))
    body = table_of([folder], against=[tmp_path / "t.json"])
    assert body["val"]["ratio"] == pytest.approx(0.5)
    assert (body["val"]["pairs"], len(body["val"]["tasks"])) == (3, 2)
    assert "val" not in table_of([folder])


def test_what_is_no_record_is_said(folder, tmp_path):
    with pytest.raises(ConfigError, match="no record to make"):
        table_of([])
    with pytest.raises(ConfigError, match=r"holds no record\.json"):
        table_of([tmp_path])
    record = json.loads(next(folder.rglob("record.json")).read_text())
    del record["test"]
    for text in (json.dumps(record), "{"):
        (tmp_path / "record.json").write_text(text)
        with pytest.raises(DataError, match="no record of a training with a test"):
            table_of([tmp_path])
