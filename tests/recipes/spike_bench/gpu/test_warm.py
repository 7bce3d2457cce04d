import subprocess

import torch

from sparseflow.recipes.spike_bench.gpu import warm as module
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig
from sparseflow.recipes.spike_bench.gpu.warm import deal, dense_of, forget_timings, jobs, run_jobs, warm

CPU = torch.device("cpu")


def test_jobs_are_what_the_stages_will_compile():
    assert jobs(GpuBenchConfig(only=("correct",))) == []
    found = jobs(GpuBenchConfig(only=("blocks",)))
    assert len(found) == 5 * 6
    seed = jobs(GpuBenchConfig(only=("seed",)))
    assert len(seed) == 3 * 2
    nets = jobs(GpuBenchConfig(only=("network",), checkpoints=("x.safetensors",)))
    assert len(nets) == 3 * 2 * 6
    assert nets[0]["batch"] == 32


def test_a_job_has_the_shape_of_the_stage():
    job = jobs(GpuBenchConfig(only=("blocks",)))[0]
    job["case"] |= {"size": 4, "batch": 1}
    dense = dense_of(job, CPU)
    assert dense.inputs[0].shape == (4, 64, 4, 4)
    assert dense.module(dense.inputs[0]).shape == (4, 256, 4, 4)
    net = dense_of({"kind": "network", "builder": "sew_resnet18", "batch": 1, "side": 32}, CPU)
    assert net.module(net.inputs[0]).shape == (1, 10)


def test_jobs_that_fail_are_passed_over():
    assert (
        run_jobs([{"kind": "network", "builder": "nonsense", "batch": 1, "dtype": "fp16", "layout": "nchw"}], CPU) == 0
    )


def test_every_job_is_dealt_once():
    items = [{"i": i} for i in range(7)]
    hands = deal(items, 3)
    assert sorted(job["i"] for hand in hands for job in hand) == list(range(7))
    assert len(deal(items[:2], 12)) == 2


def test_processes_that_are_late_are_stopped(monkeypatch):
    killed = []

    class Late:
        def __init__(self, *_, **__):
            pass

        def poll(self):
            return None

        def kill(self):
            killed.append(1)

        def wait(self):
            return 0

    monkeypatch.setattr(module.subprocess, "Popen", Late)
    monkeypatch.setattr(module, "forget_timings", lambda: 3)
    said = warm(GpuBenchConfig(only=("blocks",)), Budget(0.0), workers=4)
    assert len(killed) == 4
    assert "30 rivals in 4 processes" in said
    assert "3 timings forgotten" in said
    assert subprocess is module.subprocess
    assert "nothing" in warm(GpuBenchConfig(only=("correct",)), Budget(1.0))


def test_only_timings_are_forgotten(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "k.best_config").write_text("{}")
    (tmp_path / "a" / "k.py").write_text("")
    assert forget_timings(tmp_path) == 1
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["k.py"]
