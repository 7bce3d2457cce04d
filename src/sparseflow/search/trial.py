"""Nouns of a search: trial, score, failure, budget, problem, result; and the protocols that use them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from sparseflow.errors import ConfigError, MeasurementError
from sparseflow.search.parameter import Value
from sparseflow.search.space import Params, Space

__all__ = [
    "Budget",
    "Evaluate",
    "EvaluateMany",
    "Failure",
    "Outcome",
    "Problem",
    "Result",
    "Score",
    "Searcher",
    "Solver",
    "Trial",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Parameters that a searcher wants tried.

    Args:
        id: number within the search, from 0.
        params: valid parameters.
        info: what the searcher wants back with the outcome, as log-probabilities.
    """

    id: int
    params: Mapping[str, Value]
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How good a trial was.

    Args:
        value: what the search minimises.
        metrics: further figures by name with their unit, kept in the records.

    Raises:
        MeasurementError: the value or a metric is not finite.
    """

    value: float
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that every figure is finite."""
        for name, figure in {"value": self.value, **self.metrics}.items():
            if not math.isfinite(figure):
                raise MeasurementError(f"{name} of a score is {figure}; raise an error that says why instead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a trial has no score.

    Args:
        reason: type and message of the error.
    """

    reason: str


Outcome = Score | Failure
Evaluate = Callable[[Params], Score | float]
EvaluateMany = Callable[[Sequence[Params]], Sequence[Score | float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a search stops; whichever comes first.

    Args:
        trials: number of trials, those found in the records included, the
            baseline not.
        seconds: time spent in this run.

    Raises:
        ConfigError: no limit at all, or one that is not positive.
    """

    trials: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        """Check the limits."""
        if self.trials is None and self.seconds is None:
            raise ConfigError("a budget needs a number of trials, or seconds, or both")
        if (self.trials is not None and self.trials < 1) or (self.seconds is not None and not self.seconds > 0):
            raise ConfigError(f"a budget must be positive; got trials={self.trials}, seconds={self.seconds}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What a solver is asked to minimise.

    Args:
        name: name for people and for records.
        space: what may be chosen.
        evaluate: gives the score of valid parameters, or raises.
        baseline: what is done without any search; always a candidate.
    """

    name: str
    space: Space
    evaluate: Evaluate
    baseline: Params | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a search found.

    Args:
        best: parameters of the winner; None only if stopped before any score.
        score: score of the winner, measured again if that was asked for.
        baseline: score of the baseline, measured the last time, or None.
        history: every trial with its outcome, in order; the baseline first.
        interrupted: stopped by Ctrl-C.
        stopped_by: "budget", "exhausted", "interrupt" or "proof".
        reused: how many outcomes came from the records.
        elapsed_s: time of this run.
        bound: no valid parameters score below this, if the solver proves it.
    """

    best: Params | None
    score: Score | None
    baseline: Score | None = None
    history: tuple[tuple[Trial, Outcome], ...] = ()
    interrupted: bool = False
    stopped_by: str = "budget"
    reused: int = 0
    elapsed_s: float = 0.0
    bound: float | None = None

    @property
    def gain(self) -> float | None:
        """Value of the baseline over the value of the winner."""
        if self.baseline is None or self.score is None or not self.score.value:
            return None
        return self.baseline.value / self.score.value

    @property
    def failures(self) -> tuple[tuple[Trial, Failure], ...]:
        """The trials that failed, with the reasons."""
        return tuple((t, o) for t, o in self.history if isinstance(o, Failure))


@runtime_checkable
class Searcher(Protocol):
    """Proposes trials and learns from their outcomes.

    A searcher asks only for valid parameters, never twice for the same, and
    proposes the same sequence for the same seed and the same outcomes.
    """

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` new trials; none means that nothing is left to try."""
        ...

    def tell(self, done: Sequence[tuple[Trial, Outcome]]) -> None:
        """Take the outcomes of trials that were asked for."""
        ...


@runtime_checkable
class Solver(Protocol):
    """Solves a problem its own way, as by dynamic programming."""

    def solve(self, problem: Problem, budget: Budget) -> Result:
        """Return the best found within the budget; `Result.bound` may certify it."""
        ...
