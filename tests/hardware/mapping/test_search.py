import numpy as np
import pytest

from sparseflow.errors import BudgetError
from sparseflow.hardware.mapping import MappingProblem, evaluate
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.search import solve_search
from sparseflow.recipes.codesign.mapping_instances import random_problem, small_problem


@pytest.mark.parametrize("seed", range(24))
def test_search_finds_the_best_of_all_mappings_of_small_problems(seed):
    problem = small_problem(seed)
    assert solve_search(problem).cost.objective == pytest.approx(solve_brute(problem).cost.objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_no_mapping_has_violations_and_the_same_seed_finds_the_same(seed):
    problem = random_problem(seed)
    one, two = (solve_search(problem, restarts=2, steps=30, tries=10, seed=3) for _ in range(2))
    assert one.mapping.tolist() == two.mapping.tolist()
    assert evaluate(problem, one.mapping).violations == 0
    assert problem.usable[one.mapping].all()


def test_it_is_no_worse_than_a_start_without_violations():
    problem = random_problem(7)
    best = solve_search(problem)
    again = solve_search(problem, restarts=1, steps=1, tries=0, start=best.mapping)
    assert again.cost.objective <= best.cost.objective


def test_a_start_on_empty_slots_is_moved():
    problem = MappingProblem(lat_ms=np.ones((3, 3)), usable=np.array([True, False, True]))
    found = solve_search(problem, start=np.array([1, 1, 1]))
    assert set(found.mapping.tolist()) <= {0, 2}


@pytest.mark.parametrize(("k", "s"), [(1, 1), (1, 3), (5, 1), (2, 2)])
def test_least_problems(k, s):
    lat = np.random.default_rng(0).uniform(1, 2, (k, s))
    for mode in ("serial", "balanced"):
        problem = MappingProblem(lat_ms=lat, mode=mode)
        assert solve_search(problem).cost.objective == pytest.approx(solve_brute(problem).cost.objective)


def test_too_little_memory_is_said():
    with pytest.raises(BudgetError, match="no slot"):
        solve_search(MappingProblem(lat_ms=np.ones((2, 2)), weight_mb=np.ones(2), limit_mb=np.array(0.5)))
    with pytest.raises(BudgetError, match="cp_sat"):
        solve_search(MappingProblem(lat_ms=np.ones((3, 2)), weight_mb=np.ones(3), limit_mb=np.array(1.2)))
