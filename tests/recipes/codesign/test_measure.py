"""A run of measurements is written as it goes, and goes on where it was cut off."""

import pytest

from sparseflow.errors import ConfigError
from sparseflow.recipes.codesign import measure as module
from sparseflow.recipes.codesign.measure import MeasureConfig, measure
from sparseflow.recipes.codesign.measurements import read


def _config(path, **more):
    given = {"count": 7, "rounds": 2, "threads": 1, "window_s": 0.002, "networks": False, "device": "cpu"}
    return MeasureConfig(out=str(path / "layers.jsonl"), **{**given, **more})


@pytest.fixture(autouse=True)
def small(monkeypatch):
    from dataclasses import replace

    space = replace(module.SPACES["cpu"], most_flops=(("float32", 1e7), ("bfloat16", 1e7)))
    monkeypatch.setitem(module.SPACES, "cpu", space)


def test_a_second_run_measures_only_what_lacks(tmp_path):
    told = []
    first = measure(_config(tmp_path, count=3), say=told.append)
    assert (first["measured"], first["left"], len(told)) == (3, 0, 3)
    second = measure(_config(tmp_path))
    assert (second["measured"], second["failed"]) == (4, {})
    runs, layers, _ = read([tmp_path / "layers.jsonl"])
    assert len(layers) == 7
    assert all(m.lat_ms > 0 and m.mem_mb > 0 and m.power_w > 0 for m in layers)
    assert {r.kind for r in runs} == {"cpu"}
    assert "W idle" in runs[0].power_source or "rapl" in runs[0].power_source


def test_shards_divide_the_layers(tmp_path):
    for part in range(2):
        measure(_config(tmp_path / str(part), shard=f"{part}/2"))
    names = [[m.layer.name for m in read([tmp_path / str(p) / "layers.jsonl"])[1]] for p in range(2)]
    assert len(names[0]) == 4
    assert len(names[1]) == 3
    assert not set(names[0]) & set(names[1])


def test_kinds_may_be_chosen(tmp_path):
    measure(_config(tmp_path, count=4, kinds=("other",)))
    assert {m.layer.kind for m in read([tmp_path / "layers.jsonl"])[1]} == {"other"}


def test_time_that_is_over_ends_a_run(tmp_path):
    found = measure(_config(tmp_path, count=20, seconds=0.0))
    assert 0 < found["measured"] < 20
    assert found["left"] == 20 - found["measured"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"shard": "2/2"}, "shard"),
        ({"shard": "x"}, "shard"),
        ({"count": 0}, "count"),
        ({"kinds": ("lstm",)}, "lstm"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, wrong, told):
    with pytest.raises(ConfigError, match=told):
        _config(tmp_path, **wrong)
