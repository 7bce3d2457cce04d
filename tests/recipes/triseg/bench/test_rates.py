"""Rates of a small network, and which are held against what is asked."""

from pathlib import Path

import pytest

from sparseflow.errors import DataError
from sparseflow.recipes.triseg.bench.rates import Rate, images_for, rate_checks, time_scores, time_update
from sparseflow.recipes.triseg.problem import pose
from sparseflow.recipes.triseg.search_config import SearchConfig
from tests.triseg_teachers import save_teacher, splits


def rate(**more: object) -> Rate:
    body = {
        "model": "alexnet", "device": "cpu", "images": 64, "candidates": 8, "batched": 20.0, "alone": 10.0, "loop": 3.0,
        "over_loop": 6.6, "over_alone": 2.0, "macs": 5e7, "seconds": (0.4,),
    }  # fmt: skip
    return Rate(**(body | more))  # type: ignore[arg-type]


def test_checks() -> None:
    assert [c.ok for c in rate_checks(rate(), 0.1)] == [True, True, True]
    assert [c.ok for c in rate_checks(rate(batched=11.0, over_loop=4.9), 0.4)] == [False, False, False]
    assert [c.bound for c in rate_checks(rate(device="cuda"))] == [1000.0, 5.0]
    assert [c.bound for c in rate_checks(rate(model="mine"))] == [5.0]
    assert rate().tera_ops == pytest.approx(2 * 5e7 * 64 * 20 / 1e12)


def test_rates_of_a_network(tmp_path: Path) -> None:
    save_teacher(tmp_path, steps=1)
    config = SearchConfig(model="lenet5", out=str(tmp_path), device="cpu", calib_batches=1)
    problem = pose(config, splits=splits())
    found = time_scores(problem, images_for(problem, 8), candidates=3, few=2, rounds=2)
    assert (found.images, found.candidates, len(found.seconds)) == (8, 3, 2)
    assert min(found.batched, found.alone, found.loop, found.over_loop, found.over_alone) > 0
    conv = 6 * 28 * 28 * 25 * 3 + 16 * 10 * 10 * 25 * 6
    assert found.macs == conv + 400 * 120 + 120 * 84 + 84 * 10
    assert time_update(problem, config, repeats=1) > 0
    with pytest.raises(DataError, match="has 9999 of them"):
        images_for(problem, 9999)
