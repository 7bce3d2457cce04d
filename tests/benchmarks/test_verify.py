import json

import pytest

from benchmarks import verify


def record(**check):
    body = {"show": "2", "name": "n", "value": 3.0, "unit": "x", "target": ">= 2.5", "ok": True, **check}
    return {"checks": [body], "environment": {"Cores": "2"}}


def test_a_true_record_has_no_fault():
    assert verify.faults(record()) == []


@pytest.mark.parametrize(
    "check", [{"value": 2.4}, {"value": None}, {"ok": False}, {"value": 9.0, "target": "<= 3"}, {"unit": None}]
)
def test_a_check_that_contradicts_itself_is_a_fault(check):
    body = record(**check)
    if check.get("unit", "") is None:
        del body["checks"][0]["unit"]
    assert verify.faults(body)


def test_a_record_says_where_it_was_taken():
    body = record()
    del body["environment"]
    assert verify.faults(body) == ["no 'environment'"]


def test_falling_short_honestly_is_no_fault():
    assert verify.faults(record(value=2.0, ok=False)) == []


def test_main_names_the_file_at_fault(tmp_path, monkeypatch, capsys):
    (tmp_path / "good.json").write_text(json.dumps(record()))
    monkeypatch.setattr(verify, "RESULTS", tmp_path)
    assert verify.main() == 0
    (tmp_path / "bad.json").write_text(json.dumps(record(value=1.0)))
    assert verify.main() == 1
    assert "bad.json" in capsys.readouterr().out
