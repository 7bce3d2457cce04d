import json
from dataclasses import replace

from sparseflow.recipes.codesign.compare import ARMS, compare, largest_rise
from sparseflow.recipes.codesign.log import read_stats, write_stats


def test_all_arms_run_from_one_start_and_are_not_run_twice(tiny):
    tiny = replace(tiny, video=replace(tiny.video, epochs=1))
    told = []
    first = compare(tiny, seeds=(0,), say=told.append)
    assert [r["arm"] for r in first["rows"]] == list(ARMS)
    assert first["rise"] <= 0
    assert sum("dense start" in line for line in told) == 1
    told.clear()
    assert compare(tiny, seeds=(0,), say=told.append) == first
    assert not any(line.startswith("epoch") for line in told)


def test_a_rise_in_a_log_is_found(finished, tmp_path):
    lines = read_stats(json.loads(finished)["log"])
    assert largest_rise(write_stats(tmp_path / "same.jsonl", lines)) <= 0
    at = next(i for i, x in enumerate(lines) if x.phase == "C")
    lines[at] = replace(lines[at], objective=lines[at - 1].objective + 0.5)
    assert largest_rise(write_stats(tmp_path / "spoilt.jsonl", lines)) == 0.5
