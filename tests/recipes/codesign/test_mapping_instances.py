import numpy as np
import pytest

from sparseflow.hardware.mapping import MappingSolver
from sparseflow.hardware.mapping.cp_sat import solve_cp_sat
from sparseflow.recipes.codesign.mapping_instances import planted_split, random_problem, small_problem


def test_a_seed_is_one_problem_and_sizes_are_as_said():
    for seed in range(40):
        one, two = random_problem(seed), random_problem(seed)
        np.testing.assert_array_equal(one.lat_ms, two.lat_ms)
        np.testing.assert_array_equal(one.limit_mb, two.limit_mb)
        assert 6 <= one.segments <= 24
        assert 4 <= one.slots <= 16
        assert one.usable.sum() >= one.slots - one.slots // 6
        assert np.isfinite(one.limit_mb).all()
    assert {random_problem(seed).mode for seed in range(40)} == {"serial", "balanced"}


def test_limits_bind_and_yet_every_problem_has_a_mapping():
    bound = 0
    for seed in range(12):
        p = random_problem(seed)
        MappingSolver("search", restarts=2, steps=40).solve(p)
        need = p.weight_mb.sum() + p.activation_mb.max()
        bound += bool((p.limit_mb[p.usable] < need).all())
    assert bound >= 10


@pytest.mark.parametrize("seed", range(40))
def test_small_problems_are_small(seed):
    p = small_problem(seed)
    assert p.segments <= 8
    assert p.slots <= 4


@pytest.mark.parametrize("seed", range(6))
def test_a_planted_segment_outweighs_what_any_mapping_of_whole_segments_takes(seed):
    pytest.importorskip("ortools")
    p, heavy = planted_split(seed)
    whole = solve_cp_sat(p, transfers=False)
    assert whole.bound >= p.lat_ms[heavy].min() * (1 - 1e-4)
    assert p.lat_ms[heavy].max() / 2 <= 0.8 * p.lat_ms[heavy].min()
