import json
import subprocess
import sys
from typing import ClassVar

import torch

from sparseflow.recipes.spike_bench.gpu import tasks
from sparseflow.recipes.spike_bench.gpu import warm as module
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig
from sparseflow.recipes.spike_bench.gpu.warm import FORMS, SECOND, SHARES, dense_of, forget_timings, jobs, run_job, warm

CPU = torch.device("cpu")


def test_jobs_are_what_the_stages_will_compile():
    assert jobs(GpuBenchConfig(only=("coverage",))) == []
    correct = jobs(GpuBenchConfig(only=("correct",), checkpoints=("x.safetensors",)))
    assert [(job["mode"], job["dtype"]) for job in correct] == [("optimize", "fp16")] * 2 * SHARES
    assert {job["batch"] for job in correct} == {100, 32}
    found = jobs(GpuBenchConfig(only=("blocks",)))
    assert len(found) == 5 * (2 + len(FORMS) + len(SECOND) + 1)
    assert sum(job.get("provider") == "spikingjelly" for job in found) == 5
    assert {(job["mode"], job["dtype"]) for job in found[:10]} == {("ours", "fp16"), ("ours", "int8")}
    assert {(job["mode"], job["dtype"]) for job in found[10:15]} == {("compile", "fp16")}
    seed = jobs(GpuBenchConfig(only=("seed",)))
    assert {job["dtype"] for job in seed if job["mode"] != "ours"} == {"bf16"}
    assert len(seed) == 3 * 5
    nets = jobs(GpuBenchConfig(only=("network",)))
    assert len(nets) == 2 * 2 * (2 * SHARES + len(FORMS) + 1)
    assert nets[0]["batch"] == 32
    assert {(job["mode"], job["dtype"]) for job in nets[:8]} == {("compile", "fp16"), ("compile", "bf16")}
    assert {(job["mode"], job["dtype"]) for job in nets[8 : 8 + 4 * SHARES]} == {("optimize", "fp16")}
    memory = jobs(GpuBenchConfig(only=("memory",)))
    assert [(job["kind"], job["number"]) for job in memory] == [("memory", i) for i in range(SHARES)]


def test_a_trained_network_takes_the_place_of_a_random_one_and_cases_choose(monkeypatch):
    monkeypatch.setattr(module, "_builder", {"x.safetensors": "sew_resnet18"}.get)
    found = jobs(GpuBenchConfig(only=("network",), checkpoints=("x.safetensors",), cases=("sew_resnet18:1",)))
    assert len(found) == 2 * SHARES + len(FORMS) + 1
    assert all((job["checkpoint"], job["batch"]) == ("x.safetensors", 1) for job in found)


def test_a_file_that_cannot_be_read_is_left_to_the_stage():
    found = jobs(GpuBenchConfig(only=("network",), checkpoints=("nowhere.safetensors",), cases=("sew_resnet18:1",)))
    assert sum("builder" in job for job in found) == 2 * SHARES + len(FORMS) + 1


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
    """Answers every line that jobs compile, or ends at once."""

    started: ClassVar[list["Process"]] = []
    answer: ClassVar[str] = "true"

    def __init__(self, command, env, **_):
        self.env, self.stdin, self.stdout, self.jobs, self.killed = env, self, self, [], False
        type(self).started.append(self)

    def write(self, line):
        self.jobs.append(json.loads(line))

    def readline(self):
        return self.answer

    def flush(self):
        pass

    def wait(self, *_):
        pass

    close = flush

    def poll(self):
        return None

    def kill(self):
        self.killed = True


def run_with(kind, monkeypatch, seconds=30.0):
    monkeypatch.setattr(tasks.subprocess, "Popen", kind)
    monkeypatch.setattr(module, "forget_timings", lambda: 3)
    return warm(GpuBenchConfig(only=("seed",)), Budget(seconds), workers=4)


def test_every_job_runs_and_what_is_tuned_on_a_busy_device_is_kept_apart(monkeypatch):
    class Done(Process):
        started: ClassVar[list[Process]] = []

    said = run_with(Done, monkeypatch)
    assert "12 of 12 jobs by 4, 0 not begun; 3 of 3 jobs by 2, 0 not begun" in said
    assert "3 timings forgotten" in said
    assert len(Done.started) == 4 + 2
    apart = [p for p in Done.started if p.env.get("TORCHINDUCTOR_CACHE_DIR", "").startswith("/tmp/tmp")]
    tuned = [job for p in apart for job in p.jobs]
    assert {job["mode"] for job in tuned} == {"compile max-autotune"}
    assert len(tuned) == 3
    assert sum(len(p.jobs) for p in Done.started) == 15
    assert len({p.env["TRITON_CACHE_DIR"] for p in Done.started}) == 1
    assert all(p.killed for p in Done.started)
    assert "nothing" in warm(GpuBenchConfig(only=("coverage",)), Budget(1.0))


def test_what_does_not_compile_is_named_and_what_is_not_begun_is_counted(monkeypatch):
    class Fails(Process):
        started: ClassVar[list[Process]] = []
        answer = "false"

    assert "0 of 3 jobs by 2, 0 not begun (without compile max-autotune bf16 channels_last)" in run_with(
        Fails, monkeypatch
    )

    class Dies(Process):
        started: ClassVar[list[Process]] = []
        answer = ""

    assert "0 of 12 jobs by 4, 8 not begun" in run_with(Dies, monkeypatch)
    assert "12 not begun" in run_with(Process, monkeypatch, seconds=0.0)


def test_a_process_answers_each_line_and_nothing_that_compilers_print(tmp_path):
    code = f"""
import sys
from {module.__name__} import main
import {module.__name__} as module

def noisy(job, device):
    print("autotuning")
    return job["dtype"] == "fp16"

module.run_job = noisy
main()
"""
    lines = "".join(json.dumps({"mode": "compile", "dtype": d}) + "\n" for d in ("fp16", "bf16"))
    command = [sys.executable, "-c", code, "cpu"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["true", "false"]


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
