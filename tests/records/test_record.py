import math
import sys
from datetime import UTC, datetime

import pytest

from sparseflow import errors
from sparseflow.errors import ConfigError
from sparseflow.records import Key, Record, source_hash

KEY = Key(layer="l", decision="d", target="t", protocol="p")


@pytest.mark.parametrize("name", ["layer", "decision", "target", "protocol"])
def test_a_key_names_what_was_measured(name):
    with pytest.raises(ConfigError, match=f"the {name} of a record key is empty"):
        Key(**{"layer": "l", "decision": "d", "target": "t", "protocol": "p", name: ""})


@pytest.mark.parametrize("given", [{}, {"value": 1.0, "failure": "no"}])
def test_a_record_holds_either_a_value_or_a_failure(given):
    with pytest.raises(ConfigError, match="a value or a failure"):
        Record(key=KEY, **given)


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_figures_are_finite(figure):
    with pytest.raises(ConfigError, match="record a failure"):
        Record(key=KEY, value=figure)
    with pytest.raises(ConfigError, match="iqr_s"):
        Record(key=KEY, value=1.0, stats={"iqr_s": figure})


def test_plain_data_round_trip():
    records = [
        Record(key=KEY, value=1.5, name="conv1", decision={"kernel": "event", "tile": [4, 8]}, stats={"iqr_s": 0.1}),
        Record(key=KEY, failure="out of memory", run="r1", id=3, created_at=datetime(2026, 1, 2, tzinfo=UTC)),
    ]
    assert [Record.from_dict(r.to_dict()) for r in records] == records


@pytest.mark.parametrize("body", [{}, {"key": {"layer": "l"}, "created_at": None}, {"key": 3, "created_at": None}])
def test_foreign_data_is_refused(body):
    with pytest.raises(ConfigError, match="not a record"):
        Record.from_dict(body)


def test_source_hash_follows_the_content(tmp_path):
    file = tmp_path / "kernel.cpp"
    file.write_text("a")
    before = source_hash(errors, file, "1.0")
    assert before == source_hash(errors, file, "1.0")
    file.write_text("b")
    assert before != source_hash(errors, file, "1.0")
    assert source_hash("a", "b") != source_hash("ab") != source_hash("b", "a")


def test_source_hash_refuses_what_it_cannot_read(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.cpp"):
        source_hash(tmp_path / "gone.cpp")
    with pytest.raises(ConfigError, match="module sys has no file"):
        source_hash(_no_file(sys))


def _no_file(module):
    bare = type(module)(module.__name__)
    bare.__file__ = None
    return bare
