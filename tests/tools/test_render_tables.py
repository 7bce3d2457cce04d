import json
from pathlib import Path

import pytest

from tools import render_tables

CHECKS = [
    {"show": "2", "name": "trained spikes", "value": 3.456, "unit": "x", "target": ">= 3", "ok": True},
    {"show": "2", "name": "network", "value": 2.0, "unit": "x", "target": ">= 2.5", "ok": False},
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    body = {"checks": CHECKS, "ok": False, "environment": {"Processor": "a chip", "torch": "2.13.0"}}
    (results / "spike_cpu.json").write_text(json.dumps(body))
    (tmp_path / "README.md").write_text("before\n<!-- table: spike_cpu -->\nold\n<!-- /table -->\nafter\n")
    return tmp_path


def test_a_table_is_renewed_and_then_stays(tree: Path) -> None:
    assert render_tables.main(["--root", str(tree)]) == 0
    text = (tree / "README.md").read_text()
    assert "| trained spikes | 3.46× | >= 3× | yes |" in text
    assert "| network | 2× | >= 2.5× | **no** |" in text
    assert "Processor a chip; torch 2.13.0" in text
    assert text.startswith("before\n")
    assert text.endswith("<!-- /table -->\nafter\n")
    assert render_tables.main(["--root", str(tree), "--check"]) == 0


def test_a_record_may_need_more_digits() -> None:
    checks = [{**CHECKS[0], "value": 0.37953, "unit": ""}]
    assert "| trained spikes | 0.3795 |" in render_tables.table({"checks": checks, "digits": 4})


def test_check_fails_on_a_stale_table_and_changes_nothing(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (tree / "README.md").read_text()
    assert render_tables.main(["--root", str(tree), "--check"]) == 1
    assert "out of date: README.md" in capsys.readouterr().out
    assert (tree / "README.md").read_text() == before


def test_a_missing_result_is_not_passed_over(tree: Path) -> None:
    (tree / "benchmarks" / "results" / "spike_cpu.json").unlink()
    with pytest.raises(FileNotFoundError, match="spike_cpu"):
        render_tables.main(["--root", str(tree)])


def test_brief_sets_threads_side_by_side_and_says_what_fell_short(tmp_path):
    checks = [
        {"name": "net, batch 1, 2 threads, over eager", "value": 2.0, "unit": "x", "target": ">= 1", "ok": True},
        {"name": "net, batch 1, 1 threads, over compile", "value": 0.5, "unit": "x", "target": ">= 1", "ok": False},
        {"name": "layer, 2 threads", "value": 3.0, "unit": "x", "target": ">= 1", "ok": True},
        {"name": "wrong spikes, 2 threads", "value": 0, "unit": "spikes", "target": "== 0", "ok": True},
    ]
    (tmp_path / "spike.json").write_text(json.dumps({"checks": checks}))
    text = render_tables.render("<!-- table: spike.brief -->\n<!-- /table -->", tmp_path)
    assert "| | 2 threads | 1 thread |" in text
    assert "| net, batch 1 | 2× | 0.5× (**aim >= 1**) |" in text
    assert "| layer | 3× |  |" in text
    assert "wrong spikes" not in text
    assert "3 of 4 checks of the benchmark hold." in text


def test_layers_are_averaged_by_threads_spikes_and_form(tmp_path):
    rows = [("layer", "i.i.d.", 0.0501, 2.0), ("layer", "i.i.d.", 0.05, 8.0), ("packed", "trained", 0.07, 5.0)]
    layers = [{"form": f, "spikes": s, "density": d, "ratio": r, "threads": 2} for f, s, d, r in rows]
    body = {"checks": [], "forms": {"layer": "floats", "packed": "bits"}, "layers": layers}
    (tmp_path / "spike.json").write_text(json.dumps(body))
    text = render_tables.render("<!-- table: spike.forms -->\n<!-- /table -->", tmp_path)
    assert "| 2 | i.i.d., 95% sparse | 4× |  |" in text
    assert "| 2 | trained |  | 5× |" in text
    assert "* **packed**: bits" in text
    assert render_tables.render(text, tmp_path) == text


def test_traffic_bounds_what_a_form_between_floats_can_reach():
    row = {"layer": "a", "spikes": "i.i.d.", "threads": 1, "dense_s": 0.01, "read_bytes": 20_000_000}
    rows = [
        {**row, "form": "layer", "density": 0.01, "ratio": 4.0, "written_bytes": 10_000_000},
        {**row, "form": "layer", "density": 0.2, "ratio": 1.0, "written_bytes": 10_000_000},
        {**row, "form": "block", "density": 0.01, "ratio": 3.0, "dense_s": 0.02, "written_bytes": 10_000_000},
        {**row, "form": "packed", "density": 0.01, "ratio": 9.0, "read_bytes": 0, "written_bytes": 0},
    ]
    body = {"layers": rows, "memory": [{"threads": 1, "read": 2e10, "write": 1e10}]}
    text = render_tables.traffic(body)
    assert "| 1 | a | 20.0, 10.0 MB | 2.00 ms | 5× | 4× | 10× | 3× |" in text
    assert text.count("| a |") == 1
    assert "20.0 and 10.0 GB/s" in text
    assert "does not hold" in render_tables.traffic({"layers": []})
