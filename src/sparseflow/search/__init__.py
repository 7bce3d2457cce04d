"""Spaces, ask/tell searchers, solvers and one run loop."""

from sparseflow.search.loop import run
from sparseflow.search.parameter import Categorical, Integer, LogFloat, Ordered, Parameter, Value, When
from sparseflow.search.searchers import Evolution, Exhaustive, Random
from sparseflow.search.space import Constraint, Params, Space, canonical
from sparseflow.search.trial import Budget, Evaluate, Failure, Outcome, Problem, Result, Score, Searcher, Solver, Trial

__all__ = [
    "Budget",
    "Categorical",
    "Constraint",
    "Evaluate",
    "Evolution",
    "Exhaustive",
    "Failure",
    "Integer",
    "LogFloat",
    "Ordered",
    "Outcome",
    "Parameter",
    "Params",
    "Problem",
    "Random",
    "Result",
    "Score",
    "Searcher",
    "Solver",
    "Space",
    "Trial",
    "Value",
    "When",
    "canonical",
    "run",
]
