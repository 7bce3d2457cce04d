import math

import pytest

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.search import Budget, Failure, Integer, Problem, Result, Score, Solver, Space, Trial


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_scores_are_finite(figure):
    with pytest.raises(MeasurementError, match="value of a score"):
        Score(value=figure)
    with pytest.raises(MeasurementError, match="iqr_s of a score"):
        Score(value=1.0, metrics={"iqr_s": figure})


@pytest.mark.parametrize("limits", [{}, {"trials": 0}, {"seconds": 0.0}, {"seconds": math.nan}, {"trials": -1}])
def test_a_budget_is_positive(limits):
    with pytest.raises(ConfigError, match="budget"):
        Budget(**limits)


def test_gain_and_failures_of_a_result():
    history = ((Trial(id=0, params={}), Failure(reason="no")), (Trial(id=1, params={}), Score(value=1.0)))
    result = Result(best={}, score=Score(value=1.0), baseline=Score(value=3.0), history=history)
    assert result.gain == 3.0
    assert [f.reason for _, f in result.failures] == ["no"]
    assert Result(best=None, score=None).gain is None


def test_a_solver_can_certify_its_result():
    class Brute:
        def solve(self, problem, budget):
            scored = [(problem.evaluate(p), p) for p in problem.space.enumerate()]
            value, best = min(scored, key=lambda pair: pair[0])
            return Result(best=best, score=Score(value=value), bound=value, stopped_by="proof")

    solver = Brute()
    assert isinstance(solver, Solver)
    problem = Problem(
        name="parabola",
        space=Space(parameters=(Integer(name="x", low=-3, high=3),)),
        evaluate=lambda p: (p["x"] - 1) ** 2,
    )
    result = solver.solve(problem, Budget(trials=10))
    assert (result.best, result.bound) == ({"x": 1}, 0)
