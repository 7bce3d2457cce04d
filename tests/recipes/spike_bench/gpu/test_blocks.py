import math
from dataclasses import replace

import pytest
import torch

from sparseflow.errors import MeasurementError, UnsupportedError
from sparseflow.recipes.spike_bench.gpu import blocks
from sparseflow.recipes.spike_bench.gpu.blocks import (
    CASES,
    DENSITIES,
    agreement,
    blocks_stage,
    geomean_of,
    make_block,
    our_side,
    spikes,
)
from sparseflow.recipes.spike_bench.gpu.settings import Budget, GpuBenchConfig

CPU = torch.device("cpu")
CONFIG = GpuBenchConfig(device="cpu", kernels=("dense",), quick=True)
TINY = replace(CASES[2], name="tiny", channels=33, out_channels=20, size=5, steps=3, batch=2)


def test_the_cases_are_those_of_the_claim():
    assert [(c.kernel, c.channels, c.out_channels, c.size, c.bound) for c in CASES] == [
        (1, 64, 256, 56, 4.0), (1, 256, 64, 56, 2.5), (3, 64, 64, 56, 1.4), (3, 128, 128, 28, 1.2),
        (3, 512, 512, 7, 1.0),
    ]  # fmt: skip
    assert all((c.steps, c.batch) == (4, 32) for c in CASES)
    assert CASES[0].bytes(packed=True) == 128 * 56 * 56 * 4 * (2 + 8)
    assert CASES[0].bytes(packed=False) == 128 * 56 * 56 * 2 * (64 + 256)


def test_our_side_gives_the_spikes_of_dense_float32_and_reads_what_it_is_fed():
    block = make_block(TINY, 0, CPU)
    inputs = [spikes(TINY, 0.1, k, CPU) for k in range(2)]
    ours = our_side(TINY, block, inputs, CONFIG, CPU)
    assert ours.kernel == "dense"
    assert agreement(TINY, block, inputs[0], ours.run()[0]) == 1.0
    other = [spikes(TINY, 0.4, k, CPU) for k in (7, 8)]
    ours.feed(other)
    assert agreement(TINY, block, other[1], ours.run()[1]) == 1.0


def test_no_time_is_taken_of_wrong_spikes():
    block = make_block(TINY, 0, CPU)
    x = spikes(TINY, 0.1, 0, CPU)
    words = our_side(TINY, block, [x], CONFIG, CPU).run()[0]
    with pytest.raises(MeasurementError, match="no time is taken"):
        agreement(TINY, block, x, words ^ 3)


def test_a_kernel_that_breaks_is_noted_and_no_kernel_is_an_error():
    block = make_block(TINY, 0, CPU)
    x = [spikes(TINY, 0.1, 0, CPU)]
    ours = our_side(TINY, block, x, replace(CONFIG, kernels=("nonsense", "dense")), CPU)
    assert ours.kernel == "dense"
    assert "nonsense" in ours.failures
    with pytest.raises(UnsupportedError, match="no kernel"):
        our_side(TINY, block, x, replace(CONFIG, kernels=("nonsense",)), CPU)


def test_the_stage_times_every_density_and_checks_against_the_bounds():
    result = blocks_stage(CONFIG, Budget(300.0), CPU, (TINY,))
    assert result.errors == {}
    rows = [row for row in result.rows if "precision" not in row]
    assert [row["density"] for row in rows] == list(DENSITIES)
    beside = [row for row in result.rows if row.get("precision") == "int8"]
    assert [row["density"] for row in beside] in ([], list(DENSITIES))
    assert beside or "int8" in result.details[f"{TINY.name}, int8"]["not_run"]
    assert len(result.checks) == 3
    assert {c.show for c in result.checks} == {"1"}
    assert result.checks[0].value == result.rows[0]["ratio"]
    assert result.checks[0].bound == TINY.bound
    quoted = [f for f in result.figures if f.quoted]
    assert {f.provider for f in quoted} == {"torch", "sparseflow"}
    assert all(f.rounds == CONFIG.timing()[1] for f in quoted)
    assert result.details["tiny"]["spikes_equal"] == 1.0


def test_a_case_that_breaks_fails_its_checks_and_spares_the_others(monkeypatch):
    real = blocks.make_block

    def make(case, *rest):
        if case.name == "broken":
            raise RuntimeError("no memory")
        return real(case, *rest)

    monkeypatch.setattr(blocks, "make_block", make)
    result = blocks_stage(CONFIG, Budget(300.0), CPU, (replace(TINY, name="broken"), TINY))
    assert "no memory" in result.errors["broken"]
    assert math.isnan(result.checks[0].value)
    assert math.isfinite(result.checks[1].value)
    assert not any(c.ok for c in result.checks[2:])


def test_a_mean_of_missing_ratios_is_missing():
    assert math.isnan(geomean_of([2.0, math.nan]))
    assert math.isnan(geomean_of([]))
    assert geomean_of([1.0, 4.0]) == pytest.approx(2.0)
