import json
import subprocess
from pathlib import Path

import torch

from sparseflow.recipes.spike_bench.gpu import coverage
from sparseflow.recipes.spike_bench.gpu.coverage import coverage_stage
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

CPU = torch.device("cpu")
CONFIG = GpuBenchConfig(device="cpu")


def rows(ratio, count=25):
    return [{"name": f"n{i}", "outcome": "optimized", "ratio": ratio, "compiled": True} for i in range(count)]


def fake(monkeypatch, networks, seen=None, **more):
    def run(command, **_):
        if seen is not None:
            seen.extend(command)
        if networks is not None:
            Path(command[command.index("--out") + 1]).write_text(json.dumps({"networks": networks, **more}))
        return subprocess.CompletedProcess(command, 1, "", "it broke")

    monkeypatch.setattr(coverage.subprocess, "run", run)


def test_networks_of_the_benchmark_are_taken_over_and_checked(monkeypatch):
    seen = []
    fake(monkeypatch, rows(1.2), seen)
    result = coverage_stage(CONFIG, Budget(100.0), CPU)
    assert all(c.ok for c in result.checks)
    assert len(result.rows) == 25
    assert result.details["compiled_rivals"] == 25
    assert "benchmarks.coverage" in seen


def test_one_slow_or_one_failed_network_is_enough(monkeypatch):
    fake(monkeypatch, [*rows(1.2), {"name": "slow", "outcome": "kept dense", "ratio": 0.9}])
    assert [c.ok for c in coverage_stage(CONFIG, Budget(100.0), CPU).checks] == [True, True, False]
    fake(monkeypatch, [*rows(1.2), {"name": "bad", "outcome": "failed", "ratio": None}])
    assert [c.ok for c in coverage_stage(CONFIG, Budget(100.0), CPU).checks] == [True, False, True]


def test_a_benchmark_that_breaks_says_why(monkeypatch):
    fake(monkeypatch, None)
    result = coverage_stage(CONFIG, Budget(100.0), CPU)
    assert "it broke" in result.errors["coverage"]
    assert not result.checks[0].ok
    monkeypatch.setattr(coverage.importlib.util, "find_spec", lambda _: None)
    assert "checkout" in coverage_stage(CONFIG, Budget(100.0), CPU).errors["coverage"]


def test_a_part_of_the_builders_says_which(monkeypatch):
    seen = []
    fake(monkeypatch, rows(1.2), seen)
    result = coverage_stage(GpuBenchConfig(device="cpu", part="2/3"), Budget(100.0), CPU)
    assert seen[seen.index("--part") + 1] == "2/3"
    assert result.parts == ["2/3"]


def test_builders_without_a_result_are_in_the_record_with_the_reason(monkeypatch, capsys):
    fake(monkeypatch, rows(1.2, 3), not_tried={"late": "not built when the time was up, after 90 s"})
    result = coverage_stage(CONFIG, Budget(100.0), CPU)
    assert result.errors == result.details["not_tried"] == {"late": "not built when the time was up, after 90 s"}
    assert "it broke" in capsys.readouterr().err
