import subprocess
from typing import ClassVar

import torch

from sparseflow.recipes.spike_bench.gpu import warm as module
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig
from sparseflow.recipes.spike_bench.gpu.warm import FORMS, SHARES, dense_of, forget_timings, jobs, run_job, warm

CPU = torch.device("cpu")


def test_jobs_are_what_the_stages_will_compile():
    assert jobs(GpuBenchConfig(only=("coverage",))) == []
    correct = jobs(GpuBenchConfig(only=("correct",), checkpoints=("x.safetensors",)))
    assert [(job["mode"], job["dtype"]) for job in correct] == [("optimize", "fp16")] * 2 * SHARES
    assert {job["batch"] for job in correct} == {100, 32}
    found = jobs(GpuBenchConfig(only=("blocks",)))
    assert len(found) == 5 * (2 + len(FORMS))
    assert {(job["mode"], job["dtype"]) for job in found[:10]} == {("ours", "fp16"), ("ours", "int8")}
    assert {(job["mode"], job["dtype"]) for job in found[10:15]} == {("compile", "fp16")}
    seed = jobs(GpuBenchConfig(only=("seed",)))
    assert {job["dtype"] for job in seed if job["mode"] != "ours"} == {"bf16"}
    assert len(seed) == 3 * 5
    nets = jobs(GpuBenchConfig(only=("network",)))
    assert len(nets) == 2 * 2 * (2 * SHARES + len(FORMS))
    assert nets[0]["batch"] == 32
    assert {(job["mode"], job["dtype"]) for job in nets[:8]} == {("compile", "fp16"), ("compile", "bf16")}
    assert {(job["mode"], job["dtype"]) for job in nets[8 : 8 + 4 * SHARES]} == {("optimize", "fp16")}
    memory = jobs(GpuBenchConfig(only=("memory",)))
    assert [(job["kind"], job["number"]) for job in memory] == [("memory", i) for i in range(SHARES)]


def test_a_trained_network_takes_the_place_of_a_random_one_and_cases_choose(monkeypatch):
    monkeypatch.setattr(module, "_builder", {"x.safetensors": "sew_resnet18"}.get)
    found = jobs(GpuBenchConfig(only=("network",), checkpoints=("x.safetensors",), cases=("sew_resnet18:1",)))
    assert len(found) == 2 * SHARES + len(FORMS)
    assert all((job["checkpoint"], job["batch"]) == ("x.safetensors", 1) for job in found)


def test_a_file_that_cannot_be_read_is_left_to_the_stage():
    found = jobs(GpuBenchConfig(only=("network",), checkpoints=("nowhere.safetensors",), cases=("sew_resnet18:1",)))
    assert sum("builder" in job for job in found) == 2 * SHARES + len(FORMS)


def test_a_job_has_the_shape_of_the_stage():
    job = jobs(GpuBenchConfig(only=("blocks",)))[0]
    job["case"] |= {"size": 4, "batch": 1}
    dense = dense_of(job, CPU)
    assert dense.inputs[0].shape == (4, 64, 4, 4)
    assert dense.module(dense.inputs[0]).shape == (4, 256, 4, 4)
    net = dense_of({"kind": "network", "builder": "sew_resnet18", "batch": 1, "side": 32}, CPU)
    assert net.module(net.inputs[0]).shape == (1, 10)


def test_a_job_that_fails_says_so():
    job = {"kind": "network", "builder": "nonsense", "batch": 1, "mode": "compile", "dtype": "fp16", "layout": "nchw"}
    assert run_job(job, CPU) is False


def test_our_kernels_are_built_by_optimising(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "build_share", lambda model, x, *rest: seen.append((tuple(x.shape), *rest)))
    job = {"kind": "network", "builder": "sew_resnet18", "batch": 2, "side": 32, "mode": "optimize", "dtype": "int8"}
    assert run_job({**job, "number": 1, "of": 3}, CPU)
    assert seen == [((2, 3, 32, 32), "int8", 1, 3)]


class Process:
    """Ends at once, or never."""

    started: ClassVar[list["Process"]] = []
    status: ClassVar[int | None] = None

    def __init__(self, command, env, **_):
        self.env, self.killed = env, False
        self.returncode = type(self).status
        type(self).started.append(self)

    def poll(self):
        return self.returncode

    def kill(self):
        self.killed = True

    def wait(self):
        return 0


def test_processes_that_are_late_are_stopped(monkeypatch):
    class Late(Process):
        started: ClassVar[list[Process]] = []

    monkeypatch.setattr(module.subprocess, "Popen", Late)
    monkeypatch.setattr(module, "forget_timings", lambda: 3)
    said = warm(GpuBenchConfig(only=("seed",)), Budget(0.5), workers=4)
    assert len(Late.started) == 4
    assert all(process.killed for process in Late.started)
    assert "0 of 15 jobs" in said
    assert "4 stopped early, 11 not begun, 3 timings forgotten" in said
    assert subprocess is module.subprocess
    assert "nothing" in warm(GpuBenchConfig(only=("coverage",)), Budget(1.0))


def test_every_job_runs_and_what_is_tuned_on_a_busy_device_is_kept_apart(monkeypatch):
    class Done(Process):
        started: ClassVar[list[Process]] = []
        status = 0

    monkeypatch.setattr(module.subprocess, "Popen", Done)
    monkeypatch.setattr(module, "forget_timings", lambda: 0)
    said = warm(GpuBenchConfig(only=("seed",)), Budget(30.0), workers=4)
    assert "15 of 15 jobs" in said
    assert len(Done.started) == 15
    apart = [p for p in Done.started if p.env.get("TORCHINDUCTOR_CACHE_DIR", "").startswith("/tmp/tmp")]
    assert len(apart) == 3
    assert len({p.env["TRITON_CACHE_DIR"] for p in Done.started}) == 1


def test_only_timings_are_forgotten(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "k.best_config").write_text("{}")
    (tmp_path / "a" / "k.py").write_text("")
    assert forget_timings(tmp_path) == 1
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["k.py"]


def test_kernels_of_a_block_are_built_for_its_shape(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "our_side", lambda case, block, xs, config, device, p: seen.append((xs[0].shape, p)))
    job = next(job for job in jobs(GpuBenchConfig(only=("blocks",))) if job["mode"] == "ours")
    job["case"] |= {"size": 4, "batch": 1}
    assert run_job(job, CPU)
    assert seen == [((4, 64, 4, 4), "fp16")]
