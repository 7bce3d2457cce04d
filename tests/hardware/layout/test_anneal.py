import numpy as np
import pytest

from sparseflow.hardware.layout.anneal import AnnealConfig, anneal
from sparseflow.hardware.layout.grid import grid_mm
from sparseflow.hardware.layout.legal import is_legal
from sparseflow.recipes.codesign.layout_instances import random_dies


def start(problem, chains):
    grid = grid_mm(problem.widths_mm, problem.heights_mm, radius_mm=problem.radius_mm, gap_mm=problem.gap_mm)
    return np.repeat(grid[None], chains, 0)


@pytest.mark.parametrize("flux", [0.4, 1.2])
def test_chains_stay_legal_fall_and_know_their_cost(flux):
    problem = random_dies(1, dies=9, largest_mm2=400.0, flux_w_per_mm2=flux)
    begin = start(problem, 4)
    pos, cost = anneal(problem, begin, AnnealConfig(steps=400), np.random.default_rng(0))
    for layout, said in zip(pos, cost, strict=True):
        sizes = problem.widths_mm, problem.heights_mm
        assert is_legal(layout, *sizes, radius_mm=problem.radius_mm, gap_mm=problem.gap_mm)
        assert problem.cost(layout) < 0.9 * problem.cost(begin[0])
        # The table knows centres alone and no rim, so heat may be off a little.
        assert problem.cost(layout) == pytest.approx(said, rel=1e-6 if flux < 1 else 0.2)


def test_the_same_seed_gives_the_same_layout():
    problem = random_dies(2, dies=6, largest_mm2=400.0)
    runs = [
        anneal(problem, start(problem, 3), AnnealConfig(steps=50), np.random.default_rng(seed))[0] for seed in (5, 5, 6)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_one_die_has_nowhere_to_go():
    problem = random_dies(0, dies=1, largest_mm2=400.0)
    begin = start(problem, 2)
    pos, cost = anneal(problem, begin, AnnealConfig(steps=5), np.random.default_rng(0))
    np.testing.assert_array_equal(pos, begin)
    assert cost.tolist() == [0, 0]


def test_time_may_be_the_limit():
    problem = random_dies(3, dies=5, largest_mm2=400.0)
    pos, _ = anneal(problem, start(problem, 2), AnnealConfig(seconds=0.05), np.random.default_rng(0))
    assert pos.shape == (2, 5, 2)
