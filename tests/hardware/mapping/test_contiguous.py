import numpy as np
import pytest

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping import MappingProblem
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.contiguous import solve_dp
from sparseflow.recipes.codesign.mapping_instances import small_problem


def objective(solve, *args, **options):
    try:
        return solve(*args, **options).cost.objective
    except BudgetError:
        return None


@pytest.mark.parametrize("seed", range(60))
def test_dp_is_the_best_of_all_contiguous_mappings(seed):
    problem = small_problem(seed)
    assert objective(solve_dp, problem) == pytest.approx(objective(solve_brute, problem, contiguous=True), rel=1e-9)


def test_slots_that_are_alike_are_one_class():
    # 16 slots of 3 kinds have 7·6·6 states of which there would be 2**16 without classes.
    kind = np.repeat([0, 1, 2], [6, 5, 5])
    lat = np.random.default_rng(0).uniform(1, 5, (10, 3))[:, kind]
    found = solve_dp(MappingProblem(lat_ms=lat, traffic_bytes=np.array(1e6), link_bytes_per_s=np.array(1e10)))
    assert found.optimal
    runs = 1 + np.count_nonzero(np.diff(found.mapping))
    assert runs == len(set(found.mapping.tolist()))


def test_a_slow_link_may_bound_the_period():
    # Two slots halve the work, but the transfer takes longer than all of it on one.
    lat = np.array([[1.0, 1.0], [1.0, 1.0]])
    slow = MappingProblem(lat_ms=lat, traffic_bytes=np.array([3e6]), link_bytes_per_s=np.array(1e9))
    assert solve_dp(slow).cost.period_ms == 2.0
    fast = MappingProblem(lat_ms=lat, traffic_bytes=np.array([5e5]), link_bytes_per_s=np.array(1e9))
    assert solve_dp(fast).cost.period_ms == 1.0


def test_what_it_does_not_handle_is_refused():
    with pytest.raises(UnsupportedError, match="classes"):
        solve_dp(MappingProblem(lat_ms=np.random.default_rng(0).uniform(1, 2, (20, 16))))
    with pytest.raises(BudgetError, match="memory"):
        solve_dp(MappingProblem(lat_ms=np.ones((2, 2)), weight_mb=np.ones(2), limit_mb=np.array(0.5)))
