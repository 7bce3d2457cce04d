import numpy as np
import pytest

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping import MappingProblem
from sparseflow.hardware.mapping.brute import solve_brute


def test_the_best_of_all_is_found():
    lat = np.array([[1.0, 9.0], [9.0, 2.0], [3.0, 3.0]])
    found = solve_brute(MappingProblem(lat_ms=lat))
    assert found.mapping.tolist() == [0, 1, 0]
    assert found.cost.objective == found.bound == 4.0
    assert found.optimal


def test_contiguous_mappings_never_come_back():
    # The best of all alternates between both slots.
    lat = np.array([[1.0, 9.0], [9.0, 1.0], [1.0, 9.0], [9.0, 1.0]])
    problem = MappingProblem(lat_ms=lat)
    assert solve_brute(problem).mapping.tolist() == [0, 1, 0, 1]
    found = solve_brute(problem, contiguous=True)
    assert found.cost.period_ms == 10.0
    runs = 1 + np.count_nonzero(np.diff(found.mapping))
    assert runs == len(set(found.mapping.tolist()))


def test_empty_slots_and_full_slots_are_never_used():
    problem = MappingProblem(
        lat_ms=np.array([[1.0, 5.0, 0.1], [1.0, 5.0, 0.1]]),
        weight_mb=np.array([2.0, 2.0]),
        limit_mb=np.array([3.0, 9.0, 9.0]),
        usable=np.array([True, True, False]),
    )
    assert sorted(solve_brute(problem).mapping.tolist()) == [0, 1]


def test_what_cannot_be_done_is_said():
    with pytest.raises(BudgetError, match="memory limits"):
        solve_brute(MappingProblem(lat_ms=np.ones((2, 2)), weight_mb=np.ones(2), limit_mb=np.array(0.5)))
    with pytest.raises(UnsupportedError, match="too many"):
        solve_brute(MappingProblem(lat_ms=np.ones((24, 16))))
