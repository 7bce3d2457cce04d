import numpy as np

from sparseflow.errors import BudgetError
from sparseflow.hardware.mapping import MappingProblem, evaluate
from sparseflow.hardware.mapping.greedy import solve_greedy_local
from sparseflow.recipes.codesign.mapping_instances import random_problem


def test_it_ends_where_no_single_relocation_that_keeps_memory_helps():
    ended = 0
    for seed in range(12):
        problem = random_problem(seed, mode="balanced")
        try:
            found = solve_greedy_local(problem)
        except BudgetError:
            continue
        ended += 1
        for k in range(problem.segments):
            for s in np.flatnonzero(problem.usable):
                other = found.mapping.copy()
                other[k] = s
                cost = evaluate(problem, other)
                assert cost.violations or cost.objective >= found.cost.objective
    assert ended > 0


def test_it_starts_in_turn_on_slots_with_dies():
    problem = MappingProblem(lat_ms=np.ones((4, 3)), usable=np.array([True, False, True]))
    assert solve_greedy_local(problem).mapping.tolist() == [0, 2, 0, 2]
