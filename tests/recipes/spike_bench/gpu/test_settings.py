import os

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.recipes.spike_bench.gpu.settings import (
    SHARES,
    STAGES,
    Budget,
    GpuBenchConfig,
    cores,
    device_name,
    fast_dense,
    strict,
    versions,
)


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "cpu"},
        {"only": ("speed",)},
        {"budget_s": 0.0},
        {"kernels": ()},
        {"rounds": 0},
        {"configurations": 0},
        {"cases": ("a:0",)},
        {"cases": ("a b",)},
        {"part": "3/2"},
        {"part": "half"},
        {"helpers": "2-"},
        {"helpers": "all"},
    ],
)
def test_bad_settings(wrong):
    with pytest.raises(ConfigError):
        GpuBenchConfig(**wrong)


def test_stages_run_in_their_own_order_and_each_has_a_share():
    assert GpuBenchConfig(only=("seed", "blocks")).stages == ("blocks", "seed")
    assert GpuBenchConfig().stages == STAGES
    assert set(SHARES) == set(STAGES)


def test_a_quoted_figure_has_the_rounds_of_the_protocol_unless_quick():
    warmup, rounds = GpuBenchConfig().timing()
    assert warmup >= 20
    assert rounds >= 100
    assert GpuBenchConfig(quick=True).timing()[1] < rounds


def test_a_budget_is_spent_and_shared():
    whole = Budget(100.0)
    assert 99.0 < whole.left() <= 100.0
    assert whole.share(1, 4).left() == pytest.approx(25.0, abs=0.5)
    assert Budget(5.0, started=whole.started - 10).left() == 0.0
    assert Budget(5.0).share(1, 0).left() == 0.0


@pytest.mark.parametrize(("setting", "tf32"), [(fast_dense, True), (strict, False)])
def test_precision_settings_come_back(setting, tf32):
    def now():
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()

    before = now()
    with setting():
        assert torch.backends.cudnn.allow_tf32 is tf32
    assert now() == before


def test_versions_and_device():
    assert versions()["torch"] == torch.__version__
    assert device_name(torch.device("cpu")) == "cpu"


def test_cases_and_parts_choose():
    assert GpuBenchConfig().wants("a", 1)
    some = GpuBenchConfig(cases=("a:32", "b"))
    assert [some.wants(*x) for x in (("a", 32), ("a", 1), ("b", 1), ("c", 1))] == [True, False, True, False]
    assert GpuBenchConfig().share() == (1, 1)
    assert GpuBenchConfig(part="2/3").share() == (2, 3)


def test_cores_are_those_that_the_process_may_use():
    assert cores() == len(os.sched_getaffinity(0))


def test_helpers_work_at_the_lowest_priority_on_processors_of_their_own():
    count, prefix = GpuBenchConfig(helpers="1,4-6").crew()
    assert count == 4
    assert prefix[-2:] == ("-c", "1,4-6")
    assert "19" in prefix
    count, prefix = GpuBenchConfig().crew()
    assert 1 <= count <= cores()
    assert prefix == ()
