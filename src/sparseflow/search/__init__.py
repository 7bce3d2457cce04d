"""Spaces, ask/tell searchers, solvers and one run loop."""

import importlib
from typing import TYPE_CHECKING, Any

from sparseflow.search.between import Between, Bound
from sparseflow.search.cma import CMAES
from sparseflow.search.coordinate import Coordinate
from sparseflow.search.encoding import Encoding
from sparseflow.search.loop import run
from sparseflow.search.parameter import Categorical, Integer, LogFloat, Ordered, Parameter, Value, When
from sparseflow.search.relay import Leg, Relay
from sparseflow.search.searchers import Evolution, Exhaustive, Random
from sparseflow.search.space import Constraint, Params, Space, canonical
from sparseflow.search.tpe import GP, NSGA2, TPE
from sparseflow.search.trial import (
    Budget,
    Evaluate,
    EvaluateMany,
    Failure,
    Outcome,
    Problem,
    Result,
    Score,
    Searcher,
    Solver,
    Trial,
)

if TYPE_CHECKING:
    from sparseflow.search.ppo import PPO, PPOSettings

__all__ = [
    "CMAES",
    "GP",
    "NSGA2",
    "PPO",
    "TPE",
    "Between",
    "Bound",
    "Budget",
    "Categorical",
    "Constraint",
    "Coordinate",
    "Encoding",
    "Evaluate",
    "EvaluateMany",
    "Evolution",
    "Exhaustive",
    "Failure",
    "Integer",
    "Leg",
    "LogFloat",
    "Ordered",
    "Outcome",
    "PPOSettings",
    "Parameter",
    "Params",
    "Problem",
    "Random",
    "Relay",
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


def __getattr__(name: str) -> Any:
    """Load PPO on its first use: it alone of the searchers needs torch."""
    if name in ("PPO", "PPOSettings"):
        return getattr(importlib.import_module("sparseflow.search.ppo"), name)
    raise AttributeError(f"module 'sparseflow.search' has no attribute {name!r}")
