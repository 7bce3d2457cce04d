from dataclasses import replace

import pytest
import torch
from torch import nn

from sparseflow.ir.report import Report
from sparseflow.nn import models
from sparseflow.recipes.spike_bench.gpu import correct
from sparseflow.recipes.spike_bench.gpu.correct import combinations, correct_stage
from sparseflow.recipes.spike_bench.gpu.dense import enliven
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.nets import NetCase, images
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

CPU = torch.device("cpu")
CONFIG = GpuBenchConfig(device="cpu", kernels=("dense",), configurations=3)
BOTH = ("fp16", "exact")

REPORT = Report(model="", target="")


def test_int8_runs_on_the_kernel_that_has_it_only():
    config = GpuBenchConfig()
    assert combinations(config, ("int8",)) == [("cuda", "int8")]
    assert len(combinations(config, ("fp16", "exact", "int8"))) == 2 * len(config.kernels) + 1


def test_exact_is_held_to_both_references_and_random_layers_count_a_current_once():
    tally = Tally(steps=10, equal=5, clear=8, clear_wrong=1, float32_wrong=2, distinct=4, distinct_equal=4)
    plain = correct._spike_checks("w", "exact", tally)
    assert [(c.value, c.ok) for c in plain] == [(2, False), (1, False)]
    assert [c.value for c in correct._spike_checks("w", "fp16", tally)] == [0.5]
    assert [c.value for c in correct._spike_checks("w", "fp16", tally, once=True)] == [1.0]
    assert not any(c.ok for c in correct._spike_checks("w", "exact", Tally()))


@pytest.fixture
def case(monkeypatch):
    monkeypatch.setattr(correct, "optimized", lambda model, x, precision: (model, REPORT))
    torch.manual_seed(0)
    model = models.build("csnn", channels=8, in_channels=3, image_size=32, steps=2).eval()
    x = images(4, 32, CPU)
    enliven(model, x)
    return NetCase(name="csnn", builder="csnn", model=model, x=x, trained=False)


def test_the_stage_checks_random_layers_trained_layers_and_the_whole(case):
    result = correct_stage(CONFIG, Budget(60.0), CPU, cases=[case], precisions=BOTH, images=4)
    assert result.errors == {}
    assert all(c.ok for c in result.checks)
    assert {c.show for c in result.checks} == {"4"}
    assert sum("configurations that ran" in c.name for c in result.checks) == 2
    assert any("top-1" in c.name and c.value == 1.0 for c in result.checks)
    assert sum("did not come to it" in c.name for c in result.checks) == 2
    assert result.details["csnn, dense, fp16"]["layers"].keys() == {"features.conv2", "classifier.fc1"}
    assert result.details["csnn, whole, fp16"]["parity"] == REPORT.parity


def test_a_wrong_network_fails(case, monkeypatch):
    class Wrong(nn.Module):
        def forward(self, x):
            return torch.eye(10)[torch.arange(len(x)) % 10] * torch.rand(())

    monkeypatch.setattr(correct, "optimized", lambda *_: (Wrong(), REPORT))
    result = correct_stage(CONFIG, Budget(60.0), CPU, cases=[case], precisions=BOTH, images=4)
    assert sum(not c.ok for c in result.checks) == 2


def test_a_kernel_that_is_not_there_fails_its_checks_and_no_others(case):
    config = replace(CONFIG, kernels=("nonsense", "dense"))
    result = correct_stage(config, Budget(60.0), CPU, cases=[case], precisions=BOTH, images=4)
    assert {"nonsense" in c.name for c in result.checks if not c.ok} == {True}


def test_processes_are_bounded_by_the_memory_of_the_device():
    gib = 2**30
    assert correct.room(free=130 * gib, need=2 * gib, wanted=24) == 24
    assert correct.room(free=130 * gib, need=26 * gib, wanted=24) == 4
    assert correct.room(free=gib, need=26 * gib, wanted=24) == 1
    assert correct._crew(CONFIG, CPU, need=gib) == (0, ())
