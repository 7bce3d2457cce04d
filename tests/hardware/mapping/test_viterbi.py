import numpy as np
import pytest

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping import MappingProblem
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.viterbi import cheapest_path, cheapest_through, solve_viterbi
from sparseflow.recipes.codesign.mapping_instances import small_problem


@pytest.mark.parametrize("seed", [s for s in range(80) if s % 4 < 2])
def test_viterbi_is_the_best_of_all_mappings(seed):
    problem = small_problem(seed)
    found = solve_viterbi(problem)
    assert found.cost.objective == pytest.approx(solve_brute(problem).cost.objective, rel=1e-12)
    assert found.optimal


def test_a_path_of_one_segment():
    assert cheapest_path(np.array([[3.0, 1.0]]), np.zeros((0, 2, 2)))[1].tolist() == [1]


def test_paths_through_a_slot_and_through_two():
    r = np.random.default_rng(0)
    own, pair = r.uniform(0, 1, (5, 3)), r.uniform(0, 1, (4, 3, 3))
    alone, both = cheapest_through(own, pair)
    assert alone.min(1) == pytest.approx([cheapest_path(own, pair)[0]] * 5)
    for k in range(4):
        np.testing.assert_allclose(both[k].min(1), alone[k])
        np.testing.assert_allclose(both[k].min(0), alone[k + 1])
    forced = own.copy()
    forced[2, [0, 2]] = 99.0
    assert alone[2, 1] == pytest.approx(cheapest_path(forced, pair)[0])


def test_what_it_does_not_handle_is_refused():
    with pytest.raises(UnsupportedError, match="serial"):
        solve_viterbi(MappingProblem(lat_ms=np.ones((2, 2))))
    tight = {"lat_ms": np.ones((2, 2)), "mode": "serial", "weight_mb": np.ones(2)}
    with pytest.raises(UnsupportedError, match="limits bind"):
        solve_viterbi(MappingProblem(**tight, limit_mb=np.array(1.5)))
    with pytest.raises(BudgetError, match="no slot"):
        solve_viterbi(MappingProblem(**tight, limit_mb=np.array(0.5)))
