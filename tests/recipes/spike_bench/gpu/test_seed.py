import math
from dataclasses import replace

import pytest
import torch

from sparseflow.recipes.spike_bench.gpu import seed
from sparseflow.recipes.spike_bench.gpu.seed import SEED_CASES, seed_stage, tiles
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

CPU = torch.device("cpu")
CONFIG = GpuBenchConfig(device="cpu", kernels=("dense",), quick=True)
TINY = replace(SEED_CASES[0], channels=16, size=6, block=4, batch=1, steps=2, density=0.1)


def test_the_cases_are_the_lines_of_the_table():
    assert [(c.name, round(100 * (1 - c.density), 1), c.claimed) for c in SEED_CASES] == [
        ("layer1.0.conv2", 98.5, 13.1), ("layer1.1.conv2", 98.9, 15.6), ("layer1.2.conv2", 99.4, 35.4),
        ("layer2.1.conv2", 100.0, 72.2), ("layer2.2.conv2", 99.9, 69.6), ("layer3.1.conv2", 99.7, 38.3),
    ]  # fmt: skip
    assert all((c.steps, c.batch) == (16, 32) for c in SEED_CASES)
    assert [c.channels * c.size for c in SEED_CASES] == [64 * 56] * 6


def test_tiles_are_full_or_empty():
    case = TINY.case()
    x = tiles(case, 0.5, 4, 0, CPU)
    assert x.shape == case.shape
    means = torch.nn.functional.avg_pool2d(x[:, :, :4, :4], 4)
    assert set(means.unique().tolist()) == {0.0, 1.0}


def test_the_stage_counts_what_meets_the_table():
    result = seed_stage(CONFIG, Budget(20.0), CPU, (TINY,))
    assert result.errors == {}
    (row,) = result.rows
    assert row["over_eager"] > 0
    assert row["spikes_equal"] == 1.0
    met, least, compiled = result.checks
    assert met.value == (row["over_eager"] >= TINY.claimed)
    assert (met.bound, least.bound, compiled.bound) == (4, 10.0, 2.0)
    assert least.value == row["over_eager"]
    assert not compiled.ok


def test_the_two_stage_policy_is_timed_on_both_patterns_and_held_to_the_convolution():
    (row,) = seed_stage(CONFIG, Budget(20.0), CPU, (TINY,)).rows
    for name in ("scattered", "tiles"):
        assert row[f"two_stage_{name}_us"] > 0
        assert row[f"two_stage_{name}_over_conv"] > 0
        assert row[f"two_stage_{name}_error"] == pytest.approx(0.0, abs=1e-6)


def test_a_two_stage_policy_that_breaks_says_so(monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no two stages")

    monkeypatch.setattr(seed, "conv2d_block", broken)
    result = seed_stage(CONFIG, Budget(20.0), CPU, (TINY,))
    assert "no two stages" in result.rows[0]["two_stage_tiles"]
    assert result.rows[0]["over_eager"] > 0


def test_a_layer_that_breaks_meets_nothing(monkeypatch):
    def broken(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(seed, "make_block", broken)
    result = seed_stage(CONFIG, Budget(20.0), CPU, (TINY,))
    assert result.errors
    assert not any(c.ok for c in result.checks)
    assert math.isnan(result.checks[1].value)
