import json

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.checks import Check
from sparseflow.recipes.spike_bench.gpu import bench
from sparseflow.recipes.spike_bench.gpu.bench import RUNNERS, bench_gpu
from sparseflow.recipes.spike_bench.gpu.record import Enough
from sparseflow.recipes.spike_bench.gpu.settings import STAGES, GpuBenchConfig


def good(*_, result):
    result.checks.append(Check(show="1", name="c", value=2.0, unit="x", rule=">=", bound=1.0))


def test_every_stage_has_a_runner():
    assert tuple(RUNNERS) == STAGES


def test_a_broken_stage_fails_and_spares_the_others_and_the_file_is_whole(monkeypatch, tmp_path):
    def broken(*_, result):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(bench, "RUNNERS", {**dict.fromkeys(STAGES, good), "seed": broken})
    out, said = tmp_path / "r.json", []
    body = bench_gpu(GpuBenchConfig(device="cpu", out=str(out)), say=said.append)
    assert set(body["stages"]) == set(STAGES)
    assert not body["ok"]
    assert [c["name"] for c in body["checks"] if not c["ok"]] == ["stage seed ran to its end"]
    assert "illegal" in body["stages"]["seed"]["errors"]["seed"]
    assert any("illegal" in line for line in said)
    saved = json.loads(out.read_text())
    assert saved["stages"] == body["stages"]
    assert saved["environment"]["Python"]


def test_an_interrupted_call_keeps_what_it_knows(monkeypatch, tmp_path):
    def slow(*_, result):
        good(result=result)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "RUNNERS", {**dict.fromkeys(STAGES, good), "seed": slow})
    out = tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt):
        bench_gpu(GpuBenchConfig(device="cpu", out=str(out)))
    saved = json.loads(out.read_text())
    assert set(saved["stages"]) == {"blocks", "seed"}
    assert [c["ok"] for c in saved["stages"]["seed"]["checks"]] == [True, False]


def test_an_interruption_after_all_that_counts_fails_no_check(monkeypatch, tmp_path):
    def late(*_, result):
        good(result=result)
        raise Enough("beside")

    monkeypatch.setattr(bench, "RUNNERS", {**dict.fromkeys(STAGES, good), "seed": late})
    out = tmp_path / "r.json"
    with pytest.raises(KeyboardInterrupt):
        bench_gpu(GpuBenchConfig(device="cpu", out=str(out)))
    saved = json.loads(out.read_text())
    assert set(saved["stages"]) == {"blocks", "seed"}
    assert [c["ok"] for c in saved["stages"]["seed"]["checks"]] == [True]
    assert saved["stages"]["seed"]["errors"] == {"seed": "beside"}


def test_calls_complete_one_record(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "RUNNERS", dict.fromkeys(STAGES, good))
    out = str(tmp_path / "r.json")
    first = bench_gpu(GpuBenchConfig(device="cpu", out=out, only=("blocks", "seed")))
    assert not first["ok"]
    second = bench_gpu(GpuBenchConfig(device="cpu", out=out, only=STAGES[2:]))
    assert second["ok"]
    assert set(second["stages"]) == set(STAGES)


def test_another_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="sees none"):
        bench_gpu(GpuBenchConfig())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(bench, "device_name", lambda _: "NVIDIA H100 80GB HBM3")
    with pytest.raises(ConfigError, match="H100"):
        bench_gpu(GpuBenchConfig(target="h200"))
