import sys

import numpy as np
import pytest

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping import MappingProblem, MappingSolver
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.cp_sat import solve_cp_sat
from sparseflow.recipes.codesign.mapping_instances import random_problem, small_problem


@pytest.mark.parametrize("seed", range(16))
def test_cp_sat_is_the_best_of_all_mappings_and_its_bound_is_below(seed):
    pytest.importorskip("ortools")
    problem = small_problem(seed)
    best = solve_brute(problem).cost.objective
    found = solve_cp_sat(problem)
    assert found.optimal
    assert found.cost.objective == pytest.approx(best, rel=1e-5)
    assert best * (1 - 1e-4) <= found.bound <= best * (1 + 1e-12)


def test_a_bound_without_transfers_is_below_the_optimum_too():
    pytest.importorskip("ortools")
    problem = random_problem(1, segments=8, slots=4, mode="balanced")
    start = MappingSolver("search").solve(problem)
    whole, part = (solve_cp_sat(problem, hint=start.mapping, transfers=flag) for flag in (True, False))
    assert part.bound <= whole.bound * (1 + 1e-9) <= whole.cost.objective * (1 + 1e-9)
    assert part.bound >= 0.97 * whole.bound


@pytest.mark.parametrize("seed", range(12))
def test_a_hint_narrows_the_model_and_leaves_the_optimum(seed):
    pytest.importorskip("ortools")
    problem = small_problem(seed)
    best = solve_brute(problem)
    poor = MappingSolver("search", restarts=1, steps=1, tries=0).solve(problem)
    for hint in (best.mapping, poor.mapping):
        found = solve_cp_sat(problem, hint=hint)
        assert found.cost.objective == pytest.approx(best.cost.objective, rel=1e-5)
        assert found.bound <= best.cost.objective * (1 + 1e-12)


def test_no_mapping_and_no_library_are_said(monkeypatch):
    pytest.importorskip("ortools")
    with pytest.raises(BudgetError, match="memory limits"):
        solve_cp_sat(MappingProblem(lat_ms=np.ones((3, 2)), weight_mb=np.ones(3), limit_mb=np.array(1.2)))
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    with pytest.raises(UnsupportedError, match=r"sparseflow\[codesign\]"):
        solve_cp_sat(MappingProblem(lat_ms=np.ones((2, 2))))
