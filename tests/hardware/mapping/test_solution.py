import numpy as np

from sparseflow.hardware.mapping import MappingProblem, Solution, evaluate


def test_a_solution_claims_nothing_unless_told():
    problem = MappingProblem(lat_ms=np.ones((1, 1)))
    found = Solution(mapping=np.array([0]), cost=evaluate(problem, [0]))
    assert found.bound == float("-inf")
    assert not found.optimal
