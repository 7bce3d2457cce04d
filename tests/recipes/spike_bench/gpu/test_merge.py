import json

import pytest

from sparseflow.errors import ConfigError, DataError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu import sources
from sparseflow.recipes.spike_bench.gpu.__main__ import main
from sparseflow.recipes.spike_bench.gpu.merge import join, joins, merge
from sparseflow.recipes.spike_bench.gpu.record import Record, StageResult
from sparseflow.recipes.spike_bench.gpu.settings import STAGES

HEAD = {
    "bench": "spike-gpu", "target": "h200", "device": "a GPU", "quick": False, "commit": "abc", "when": "now",
    "config": {"seed": 0},
}  # fmt: skip
NETWORK = ("sew_resnet18:32", "sew_resnet18:1", "spiking_resnet50:32", "spiking_resnet50:1")


def held(name, show="1"):
    return Check(show=show, name=name, value=2.0, unit="x", rule=">=", bound=1.0)


def write(path, stage, *, parts=(), rows=(), head=HEAD, name="c", **details):
    result = StageResult(checks=[held(name)], rows=list(rows), parts=list(parts), details=details)
    Record(str(path), head).add(stage, result, 1.0)
    return str(path)


def builders(count, **more):
    return [{"name": f"n{i}", "outcome": "optimized", "ratio": 1.2, "timing": "graph", **more} for i in range(count)]


def whole(tmp_path):
    paths = [write(tmp_path / f"{s}.json", s) for s in STAGES if s not in ("network", "coverage")]
    paths += [
        write(tmp_path / f"n{i}.json", "network", parts=[part], rows=[{"network": part}], name=part)
        for i, part in enumerate(NETWORK)
    ]
    return paths + [
        write(tmp_path / f"c{i}.json", "coverage", parts=[f"{i}/2"], rows=builders(13), not_tried={f"m{i}": "no time"})
        for i in (1, 2)
    ]


def test_records_of_parallel_calls_make_one_and_the_same_again(tmp_path):
    paths, out = whole(tmp_path), tmp_path / "all.json"
    body = merge(paths, str(out))
    assert body["ok"]
    assert list(body["stages"]) == list(STAGES)
    assert [row["network"] for row in body["stages"]["network"]["rows"]] == list(NETWORK)
    assert body["stages"]["coverage"]["details"]["not_tried"] == {"m1": "no time", "m2": "no time"}
    assert [c["value"] for c in body["stages"]["coverage"]["checks"]] == [26, 0, 1.2]
    assert body["config"]["blocks"] == {"seed": 0}
    first = out.read_bytes()
    merge(paths, str(out))
    assert out.read_bytes() == first
    assert json.loads(first) == body


def test_one_slow_builder_of_one_part_fails_the_whole(tmp_path):
    paths = whole(tmp_path)
    write(tmp_path / "c2.json", "coverage", parts=["2/2"], rows=builders(13, ratio=0.9))
    body = merge(paths, str(tmp_path / "all.json"))
    assert [c["name"] for c in body["checks"] if not c["ok"]] == ["slowest builder over the best dense"]


def test_a_process_that_died_fails_a_check(tmp_path):
    paths = whole(tmp_path)
    (tmp_path / "n1.json").unlink()
    (tmp_path / "seed.json").write_text('{"stages":')
    body = merge(paths, str(tmp_path / "all.json"))
    assert not body["ok"]
    failed = [c["name"] for c in body["checks"] if not c["ok"]]
    assert failed == [
        "record seed is whole (JSONDecodeError)",
        "record n1 is written",
        "stage seed ran",
        "stage network, sew_resnet18:1, ran",
    ]


@pytest.mark.parametrize("key", ["device", "versions", "quick", "target"])
def test_records_of_different_visits_are_refused(tmp_path, key):
    a = write(tmp_path / "a.json", "blocks")
    b = write(tmp_path / "b.json", "seed", head={**HEAD, key: "other"})
    with pytest.raises(ConfigError, match=key):
        merge([a, b], str(tmp_path / "all.json"))
    assert not (tmp_path / "all.json").exists()


def test_stages_of_several_commits_are_joined_where_their_sources_agree(tmp_path, monkeypatch):
    trees = {"abc": {"seed": {"a.py": "1", "b.py": "2"}, "blocks": {"a.py": "1"}}}
    trees["def"] = {**trees["abc"], "blocks": {"a.py": "1", "c.py": "3"}}
    trees["old"] = {**trees["abc"], "seed": {"a.py": "1", "b.py": "9"}}
    monkeypatch.setattr(sources, "of_commit", lambda root, name: trees[name])
    monkeypatch.setattr(sources, "stage_sources", lambda tree, stage: tree[stage])
    seed = write(tmp_path / "seed.json", "seed")
    blocks = write(tmp_path / "blocks.json", "blocks", head={**HEAD, "commit": "def", "when": "now, later"})
    body = merge([seed, blocks], str(tmp_path / "all.json"))
    assert body["commit"] == "def"
    assert body["commits"] == {"seed": "abc", "blocks": "def"}
    assert [body["stages"][s]["commit"] for s in ("seed", "blocks")] == ["abc", "def"]
    assert body["sources"] == {"a.py": "1", "b.py": "2", "c.py": "3"}
    write(tmp_path / "old.json", "seed", head={**HEAD, "commit": "old"})
    with pytest.raises(ConfigError, match=r"old.json, stage seed: .* old are not those of def(.|\n)*b.py: 9 and 2"):
        merge([str(tmp_path / "old.json"), blocks], str(tmp_path / "never.json"))
    assert not (tmp_path / "never.json").exists()
    joins([seed], device="a GPU", commit="def")
    with pytest.raises(ConfigError, match=r"b\.py: 2 and 9"):
        joins([seed], device="a GPU", commit="old")
    with pytest.raises(ConfigError, match="device 'a GPU', this run of 'another'"):
        joins([seed], device="another", commit="abc")


def test_the_same_part_twice_is_refused():
    stage = {"checks": [], "parts": ["x:1"]}
    with pytest.raises(ConfigError, match=r"x:1, is in a and in b"):
        join("network", [("a", stage), ("b", stage)])
    with pytest.raises(ConfigError, match="the whole"):
        join("network", [("a", stage), ("b", {"checks": [], "parts": []})])
    with pytest.raises(ConfigError, match="x:1"):
        join("network", [("b", {"checks": []}), ("a", stage)])


def test_nothing_to_join_is_an_error(tmp_path):
    with pytest.raises(DataError, match="none of"):
        merge([str(tmp_path / "a.json")], str(tmp_path / "all.json"))


def test_the_command_joins_and_its_status_tells(tmp_path, capsys):
    paths, out = whole(tmp_path), str(tmp_path / "all.json")
    assert main(["--merge", *paths, "--out", out]) == 0
    assert "checks hold" in capsys.readouterr().out
    assert main(["--merge", *paths[1:], "--out", out, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["bench"] == "spike-gpu"
    with pytest.raises(SystemExit):
        main(["--merge", *paths])
    assert main(["--merge", "nowhere.json", "--out", out]) == 2
    assert "none of nowhere.json is a record" in capsys.readouterr().err
