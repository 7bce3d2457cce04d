import json
import math

import pytest

from sparseflow.cost import Timing
from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu.record import Figure, Record, StageResult, plain

HEAD = {"bench": "spike-gpu", "device": "a GPU", "quick": False, "commit": "abc", "when": "now"}


def result(value=2.0):
    return StageResult(checks=[Check(show="1", name="c", value=value, unit="x", rule=">=", bound=1.0)])


def figure(**more):
    fields = {
        "case": "c", "provider": "torch", "mode": "eager", "dtype": "fp16", "layout": "nchw", "shape": (1, 2),
        "density": math.nan, "timing": "calls", "quoted": True, "version": "1", "device": "cpu", **more,
    }  # fmt: skip
    return Figure.of(Timing.of([2.0, 4.0, 6.0]), calls=2, **fields)


def test_a_figure_is_of_one_forward():
    found = figure()
    assert (found.median_s, found.iqr_s, found.rounds) == (2.0, 1.0, 3)
    assert found.to_dict()["density"] is None
    assert found.to_dict()["shape"] == [1, 2]


def test_later_calls_complete_the_file_and_replace_their_own_stage(tmp_path):
    path = str(tmp_path / "new" / "r.json")
    Record(path, HEAD).add("blocks", result(0.5), 1.0)
    later = Record(path, {**HEAD, "commit": "def"})
    later.add("seed", result(), 1.0)
    body = json.loads((tmp_path / "new" / "r.json").read_text())
    assert list(body["stages"]) == ["blocks", "seed"]
    assert [body["stages"][s]["commit"] for s in body["stages"]] == ["abc", "def"]
    assert not body["ok"]
    again = Record(path, HEAD)
    again.add("blocks", result(3.0), 1.0)
    assert again.body()["ok"]
    assert len(again.body()["checks"]) == 2


def test_a_missing_stage_or_a_quick_run_is_never_ok():
    record = Record(None, HEAD)
    record.add("blocks", result(), 1.0)
    assert record.body()["ok"]
    assert not record.body(expected=("blocks", "seed"))["ok"]
    quick = Record(None, {**HEAD, "quick": True})
    quick.add("blocks", result(), 1.0)
    assert not quick.body()["ok"]
    assert not Record(None, HEAD).body()["ok"]


@pytest.mark.parametrize("key", ["bench", "device", "quick"])
def test_records_of_different_devices_are_not_mixed(tmp_path, key):
    path = str(tmp_path / "r.json")
    Record(path, HEAD).add("blocks", result(), 1.0)
    with pytest.raises(ConfigError, match=key):
        Record(path, {**HEAD, key: "other"})


def test_a_file_that_is_no_record_is_left_alone(tmp_path):
    path = tmp_path / "r.json"
    path.write_text("[1]")
    with pytest.raises(DataError, match="no record"):
        Record(str(path), HEAD)
    assert path.read_text() == "[1]"


def test_what_is_not_finite_becomes_null(tmp_path):
    found = result(math.nan)
    found.details = {"a": {"b": (math.inf, 1)}}
    found.rows = [{"ratio": math.nan}]
    found.figures = [figure()]
    path = tmp_path / "r.json"
    Record(str(path), HEAD).add("blocks", found, 1.0)
    stage = json.loads(path.read_text())["stages"]["blocks"]
    assert stage["details"] == {"a": {"b": [None, 1]}}
    assert stage["rows"] == [{"ratio": None}]
    assert stage["checks"][0]["value"] is None
    assert plain((1, "x", None)) == [1, "x", None]
