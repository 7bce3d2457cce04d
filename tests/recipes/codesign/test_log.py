import json
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from sparseflow.errors import DataError
from sparseflow.recipes.codesign.log import StatsLine, oscillation, read_stats, schema, write_stats

LINE = StatsLine(
    epoch=0, phase="B", accepted=True, objective=-0.5, proposed=-0.5, latency_ms=1.0, energy_mj=2.0, edp=2.0,
    memory_mb=3.0, comm_ms=0.0, area_mm2=600.0, chips=2, types={"big_core": 2}, segments=(2, 1), time_share=(0.6, 0.4),
)  # fmt: skip


def test_lines_come_back(tmp_path):
    lines = [LINE, replace(LINE, phase="C", top1=0.5)]
    assert read_stats(write_stats(tmp_path / "logs" / "stats.jsonl", lines)) == lines


@pytest.mark.parametrize("spoil", [{"phase": "E"}, {"chips": "two"}, {"edp": None}, {"types": {"a": 1.5}}, {"x": 1}])
def test_a_line_that_breaks_the_schema_is_named(tmp_path, spoil):
    path = tmp_path / "stats.jsonl"
    path.write_text(json.dumps(asdict(LINE)) + "\n" + json.dumps(asdict(LINE) | spoil) + "\n")
    with pytest.raises(DataError, match="line 2"):
        read_stats(path)


def test_a_figure_that_is_no_number_is_refused():
    with pytest.raises(DataError, match="edp"):
        replace(LINE, edp=float("nan"))


def test_the_published_schema_is_the_code_s():
    path = Path(__file__).parents[3] / "docs" / "reference" / "version_c_stats.schema.json"
    assert json.loads(path.read_text(encoding="utf-8")) == schema()
    assert schema()["required"] == [f.name for f in fields(StatsLine)]


def test_a_search_that_only_improves_does_not_oscillate():
    assert oscillation([3.0, 2.0, 2.0, 2.0], ["a", "b", "b", "b"]) == 0.0
    assert oscillation([2.0, 2.0, 2.0], ["a", "b", "a"]) > 0.3
