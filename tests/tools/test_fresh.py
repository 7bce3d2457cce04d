import json

import pytest

from sparseflow.recipes.sources import on_disk
from tools import fresh
from tools.fresh import LISTS, MEASURED, NATIVE, ROOT, commits, main, state

CODE = "src/sparseflow/recipes/demo.py"


@pytest.fixture(autouse=True)
def measured(monkeypatch):
    monkeypatch.setattr(fresh, "MEASURED", {"a": ("sparseflow.recipes.other",), "a_long": ("sparseflow.recipes.demo",)})


def trees(commit):
    native = {
        "src/sparseflow/ops/_native.pyi": b"",
        "csrc/x.cpp": commit.encode(),
        "src/sparseflow/ops/__init__.py": b"",
    }
    code = b"from sparseflow.ops import _native"
    return {
        "abc1234": {CODE: code, **native},
        "def5678": {CODE: code + b"\nx = 1", **native},
        "HEAD": {CODE: code, **native, "src/sparseflow/recipes/other.py": b""},
    }[commit]


def record(*names, **more):
    return {"environment": {"Commit": ", ".join(names), **more}}


GPU = {"GPU": "NVIDIA H200"}


@pytest.mark.parametrize(
    ("name", "body", "expected", "changed", "why"),
    [
        ("a_long", record("abc1234", **GPU), "fresh", [], ""),
        ("a_long", record("abc1234-dirty", **GPU), "fresh", [], ""),
        ("a_long_h200", {"device": "NVIDIA H200", "commit": ["abc1234"]}, "fresh", [], ""),
        ("a_long_cpu", record("abc1234"), "stale", ["csrc/x.cpp"], ""),
        ("a_longer", record("abc1234", "def5678", **GPU), "stale", [CODE], ""),
        ("a_cpu", record("abc1234"), "unknown", [], "no module sparseflow.recipes.other"),
        ("b", record("abc1234"), "unknown", [], "does not say which modules"),
        ("a_long", {"runs": []}, "unknown", [], "names no commit"),
    ],
)
def test_a_record_is_fresh_until_what_it_measured_changes(name, body, expected, changed, why):
    found = state(name, body, trees)
    assert (found["state"], found["changed"]) == (expected, changed)
    assert why in found["why"]


def test_stages_of_a_gpu_record_are_compared_at_their_own_commits(monkeypatch):
    monkeypatch.setattr(fresh, "stage_sources", lambda tree, stage: {stage: str(tree[CODE])})
    stages = {"blocks": {"commit": "abc1234"}, "seed": {"commit": "def5678"}}
    found = state("spike_h200", {"bench": "spike-gpu", "stages": stages}, trees)
    assert (found["state"], found["changed"]) == ("stale", ["seed"])


def test_a_commit_counts_once_however_long_its_name_is():
    long = "88b12a8dc8b3923b955348b7f48d20fd8f4658b1"
    assert commits({"environment": {"Commit": long[:12]}, "runs": [{"commit": long}, {"commit": None}]}) == {long}


def test_every_module_and_file_that_is_named_exists():
    tree = on_disk(ROOT)
    assert {*LISTS, *NATIVE} <= tree.keys()
    for modules in MEASURED.values():
        for path in (module.replace(".", "/") for module in modules):
            places = (f"{prefix}{path}{end}" for prefix in ("src/", "") for end in (".py", "/__init__.py"))
            assert any(place in tree for place in places), path


def test_the_command_prints_lines_or_json_and_is_no_gate(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fresh, "of_commit", lambda root, commit: trees(commit))
    (tmp_path / "a_long_cpu.json").write_text(json.dumps(record("abc1234")))
    (tmp_path / "a_long_lines.jsonl").write_text('{"device": "NVIDIA H200", "commit": "abc1234"}\n{"lat_ms": 1}\n')
    (tmp_path / "b.json").write_text(json.dumps(record("def5678")))
    (tmp_path / "README.md").write_text("")
    assert main(["--results", str(tmp_path)]) == 0
    assert capsys.readouterr().out.split("\n")[:2] == [
        "stale   a_long_cpu                  abc1234",
        "          csrc/x.cpp",
    ]
    assert main(["--results", str(tmp_path), "--json"]) == 0
    assert [row["state"] for row in json.loads(capsys.readouterr().out)["records"]] == [
        "stale", "fresh", "unknown",
    ]  # fmt: skip
