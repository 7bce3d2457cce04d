"""Optuna's samplers behind ask and tell: tree-structured Parzen estimator, Gaussian process and NSGA-II."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.search._extra import extra
from sparseflow.search.encoding import index_of
from sparseflow.search.parameter import Categorical, LogFloat, Parameter, Value
from sparseflow.search.proposer import Learner
from sparseflow.search.space import Params, Space
from sparseflow.search.trial import Outcome, Score

__all__ = ["GP", "NSGA2", "TPE"]


class _Sampled(Learner[Any]):
    """Asks a study of Optuna, in memory; the records stay the only store."""

    def __init__(self, space: Space, sampler: Any, optuna: ModuleType, seed: int, start: Params | None, tries: int):
        super().__init__(space, seed=seed, start=start, tries=tries)
        self._optuna = optuna
        self._kinds = {p.name: _distribution(p, optuna) for p in space.parameters}
        with _quiet(optuna):
            self._study = optuna.create_study(sampler=sampler)

    def _suggest(self) -> tuple[Any, dict[str, Value]]:
        trial, out = self._study.ask(), dict[str, Value]()
        for p in self.space.parameters:
            if p.when is None or p.when(out):
                out[p.name] = _suggested(trial, p, p.given(out).values())
        return trial, out

    def _learn(self, ticket: Any, params: dict[str, Value], outcome: Outcome) -> None:
        if isinstance(outcome, Score):
            self._study.tell(ticket, outcome.value)
        else:
            self._study.tell(ticket, state=self._optuna.trial.TrialState.FAIL)

    def _observe(self, params: dict[str, Value], outcome: Outcome) -> None:
        if not isinstance(outcome, Score):
            return
        by_name = {p.name: p for p in self.space.parameters}
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params={n: _kept(by_name[n], by_name[n].given(params).values(), v) for n, v in params.items()},
                distributions={n: self._kinds[n] for n in params},
                value=outcome.value,
            )
        )


class TPE(_Sampled):
    """Tree-structured Parzen estimator: draws where good trials are dense and bad ones are not.

    Each parameter by itself; of one that depends on others, the place in the
    range that they leave.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        start: parameters to try first.
        startup: trials drawn at random before the model takes over.

    Raises:
        ConfigError: `start` is not in the space, or `startup` is negative.
        UnsupportedError: package optuna is not installed.

    Source: Bergstra et al., NeurIPS 2011; package optuna, `TPESampler`.
    """

    def __init__(self, space: Space, *, seed: int = 0, start: Params | None = None, startup: int = 10) -> None:
        optuna = _needs(startup, "a TPE search")
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, n_startup_trials=startup)
        super().__init__(space, sampler, optuna, seed, start, tries=10)


class GP(_Sampled):
    """Gaussian process with expected improvement; the choice for few, dear trials.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        start: parameters to try first.
        startup: trials drawn at random before the model takes over.

    Raises:
        ConfigError: `start` is not in the space, or `startup` is negative.
        UnsupportedError: package optuna is not installed.

    Source: package optuna, `GPSampler`.
    """

    def __init__(self, space: Space, *, seed: int = 0, start: Params | None = None, startup: int = 10) -> None:
        optuna = _needs(startup, "a Gaussian process search")
        with warnings.catch_warnings():
            # That scores repeat exactly is a setting which Optuna still calls experimental.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = optuna.samplers.GPSampler(
                seed=seed % 2**32, n_startup_trials=startup, deterministic_objective=True
            )
        super().__init__(space, sampler, optuna, seed, start, tries=2)


class NSGA2(_Sampled):
    """NSGA-II with one objective: a population that crosses and mutates, and keeps the best of parents and children.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        start: parameters to try first.
        population: trials of a generation.

    Raises:
        ConfigError: `start` is not in the space, or `population` is below 2.
        UnsupportedError: package optuna is not installed.

    Source: Deb et al., IEEE Transactions on Evolutionary Computation 6(2), 2002; package optuna, `NSGAIISampler`.
    """

    def __init__(self, space: Space, *, seed: int = 0, start: Params | None = None, population: int = 30) -> None:
        if population < 2:
            raise ConfigError(f"population is {population}; expected at least 2")
        optuna = extra("optuna", "an NSGA-II search")
        sampler = optuna.samplers.NSGAIISampler(seed=seed % 2**32, population_size=population)
        super().__init__(space, sampler, optuna, seed, start, tries=10)


def _needs(startup: int, wanted: str) -> ModuleType:
    if startup < 0:
        raise ConfigError(f"startup is {startup}; expected a number of trials")
    return extra("optuna", wanted)


@contextmanager
def _quiet(optuna: ModuleType) -> Iterator[None]:
    """Keep Optuna from announcing a study, and leave its logging as it was."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)


def _distribution(p: Parameter, optuna: ModuleType) -> Any:
    kinds = optuna.distributions
    if isinstance(p, Categorical):
        return kinds.CategoricalDistribution(p.choices)
    if isinstance(p, LogFloat):
        return kinds.FloatDistribution(p.low, p.high, log=True)
    if (values := p.values()) is None:
        raise UnsupportedError(f"parameter {p.name!r} is a {type(p).__name__}; Optuna has no such distribution")
    return kinds.IntDistribution(0, len(values) - 1)


def _kept(p: Parameter, left: Sequence[Value] | None, value: Value) -> Value:
    """Return what Optuna keeps of a value: itself, or its place in the range left, on the scale of the widest."""
    widest = p.values()
    if widest is None or left is None or isinstance(p, Categorical):
        return value
    return int((index_of(left, value) + 0.5) / len(left) * len(widest))


def _suggested(trial: Any, p: Parameter, left: Sequence[Value] | None) -> Value:
    widest = p.values()
    drawn: Value
    if isinstance(p, Categorical):
        drawn = trial.suggest_categorical(p.name, p.choices)
    elif widest is None or left is None:
        assert isinstance(p, LogFloat)
        drawn = trial.suggest_float(p.name, p.low, p.high, log=True)
    else:
        place = (trial.suggest_int(p.name, 0, len(widest) - 1) + 0.5) / len(widest)
        drawn = left[int(place * len(left))]
    return drawn
