import math
from dataclasses import replace

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.ir import Report
from sparseflow.nn import models
from sparseflow.recipes.spike_bench.gpu import network
from sparseflow.recipes.spike_bench.gpu.dense import enliven
from sparseflow.recipes.spike_bench.gpu.nets import Claim, NetCase, images
from sparseflow.recipes.spike_bench.gpu.network import network_stage
from sparseflow.recipes.spike_bench.gpu.record import Enough, StageResult
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

CPU = torch.device("cpu")
CONFIG = GpuBenchConfig(device="cpu", kernels=("dense",), quick=True)


@pytest.fixture
def case(monkeypatch):
    monkeypatch.setattr(network, "optimized", lambda model, x, precision: (model, Report(model="m", target="cpu")))
    torch.manual_seed(0)
    model = models.build("csnn", channels=8, in_channels=3, image_size=32, steps=2).eval()
    x = images(3, 32, CPU)
    enliven(model, x)
    claim = Claim(builder="csnn", over_dense=1.5, over_eager=6.0)
    return NetCase(name="csnn", builder="csnn", model=model, x=x, trained=False, claim=claim)


def test_a_network_is_timed_against_the_best_dense_and_eager(case):
    result = network_stage(CONFIG, Budget(60.0), CPU, batches=(3, 1), cases=[case])
    assert result.errors == {}
    many, single, beside, _ = result.rows
    assert (beside["network"], beside["precision"], beside["batch"]) == ("csnn, int8", "int8", 3)
    assert beside["over_dense"] > 0
    assert many["waits"] == []
    assert (many["batch"], single["batch"]) == (3, 1)
    assert many["top1_equal"] == 1.0
    assert many["over_dense"] > 0
    found = {c.name: c for c in result.checks}
    assert found["csnn, N 3, over the best dense"].bound == 1.5
    assert found["csnn, N 3, over eager float32"].bound == 6.0
    assert found["csnn, N 1, over the best dense"].bound == 1.5
    assert "csnn, N 1, over eager float32" not in found
    assert found["csnn: lowest density of a layer"].ok
    assert {f.provider for f in result.figures if f.quoted} == {"torch", "sparseflow"}


def test_random_weights_are_not_passed_off_as_trained(case):
    result = network_stage(CONFIG, Budget(60.0), CPU, batches=(1,), cases=[case])
    trained = [c for c in result.checks if "trained" in c.name]
    assert len(trained) == 2
    assert not any(c.ok for c in trained)


def test_a_dead_network_fails_its_gate(case):
    for module in case.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.bias.data.fill_(-100.0)
    result = network_stage(CONFIG, Budget(60.0), CPU, batches=(1,), cases=[case])
    assert not next(c for c in result.checks if "lowest density" in c.name).ok
    assert not next(c for c in result.checks if "logits change" in c.name).ok


def test_a_network_that_breaks_fails_its_checks(case, monkeypatch):
    def broken(*_):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(network, "optimized", broken)
    result = network_stage(CONFIG, Budget(60.0), CPU, batches=(1,), cases=[case])
    assert "illegal" in result.errors["csnn, N 1"]
    assert math.isnan(result.checks[0].value)


def test_a_part_of_the_networks_says_which(case):
    config = replace(CONFIG, cases=("csnn:1",))
    result = network_stage(config, Budget(60.0), CPU, batches=(3, 1), cases=[case])
    assert result.parts == ["csnn:1"]
    assert [row["batch"] for row in result.rows] == [1, 1]
    assert [c.name for c in result.checks] == [
        "csnn, N 1, over the best dense", "csnn, N 1: calls that wait for the device in a forward",
    ]  # fmt: skip


def test_a_precision_that_is_not_there_says_why_and_fails_nothing_else(case, monkeypatch):
    def only_fp16(model, x, precision):
        if precision != "fp16":
            raise UnsupportedError("no int8")
        return model, Report(model="m", target="cpu")

    monkeypatch.setattr(network, "optimized", only_fp16)
    result = network_stage(CONFIG, Budget(60.0), CPU, batches=(1,), cases=[case])
    assert result.errors == {}
    assert "no int8" in result.rows[1]["refused"]
    assert "over_dense" in result.rows[0]


def test_a_forward_that_waits_fails_a_check(case, monkeypatch):
    monkeypatch.setattr(network, "waits", lambda *_: ["cudaStreamSynchronize"])
    result = network_stage(CONFIG, Budget(60.0), CPU, batches=(1,), cases=[case])
    assert not next(c for c in result.checks if "wait" in c.name).ok


def test_an_interruption_in_what_stands_beside_keeps_the_stage(case, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(network, "_beside", stop)
    result = StageResult()
    with pytest.raises(Enough):
        network_stage(CONFIG, Budget(60.0), CPU, batches=(3,), cases=[case], result=result)
    assert len(result.rows) == 1
    assert any("over the best dense" in c.name for c in result.checks)


def test_what_stands_beside_is_not_begun_without_time(case):
    result = network_stage(CONFIG, Budget(0.0), CPU, batches=(1,), cases=[case])
    assert result.rows[1]["refused"] == "not run: no time left"
