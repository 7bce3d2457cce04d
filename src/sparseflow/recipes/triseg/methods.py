"""The searchers of a search for codes, by name."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from sparseflow.compress.approximate import CodeSpace
from sparseflow.errors import ConfigError
from sparseflow.search import CMAES, GP, NSGA2, TPE, Coordinate, Evolution, Leg, Random, Relay, Searcher
from sparseflow.search.ppo import PPO, PPOSettings
from sparseflow.search.space import Params

__all__ = ["METHODS", "Method", "Task", "method_named"]

# Shares of the budget; found on a trained AlexNet, where CMA-ES alone hardly leaves the start in 100 evaluations.
_FIRST, _WIDE = 0.15, 0.45
_SPREAD, _REACH = 0.03, 0.05
_CODES_OF_A_SITE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a searcher is made for.

    Args:
        space: the configurations.
        start: the exact optimum of each site's histogram.
        states: four figures of each site.
        budget: evaluations in all.
        seed: seed of all draws.
        lr: learning rate of PPO; None for the default of its form.
        update_timestep: layers after which the original PPO learns.
    """

    space: CodeSpace
    start: Params
    states: Mapping[str, Sequence[float]]
    budget: int
    seed: int
    lr: float | None = None
    update_timestep: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A searcher by name.

    Args:
        name: what the settings call it.
        summary: what it does, in one line.
        make: makes it.
        batch: how many trials it is asked for at a time, which is no more than it can use at once.
        masks: the ranges it searches in unless told otherwise.
        warm: whether it begins at the optimum of the histograms.
    """

    name: str
    summary: str
    make: Callable[[Task], Searcher]
    batch: Callable[[Task], int] = lambda task: 1
    masks: str = "relative"
    warm: bool = False


def _population(task: Task) -> int:
    """Return what CMA-ES learns from at a time, 4 + ⌊3 ln D⌋."""
    axes = len(task.space.names) * (_CODES_OF_A_SITE + (task.space.reach > 0))
    return 4 + int(3 * math.log(axes))


def _in_turns(task: Task) -> Searcher:
    space = task.space.space
    first, wide = (max(1, round(share * task.budget)) for share in (_FIRST, _WIDE))

    def descend(start: Params | None) -> Searcher:
        return Coordinate(space, seed=task.seed, start=start, reach=_REACH)

    return Relay(
        space,
        [
            Leg(make=lambda _: descend(task.start), trials=first),
            Leg(make=lambda best: CMAES(space, seed=task.seed, start=best, sigma=_SPREAD), trials=wide),
            Leg(make=descend),
        ],
    )


def _ppo(task: Task) -> Searcher:
    settings = PPOSettings() if task.lr is None else PPOSettings(lr=task.lr)
    return PPO(task.space.space, seed=task.seed, states=task.states, settings=settings)


def _original_ppo(task: Task) -> Searcher:
    settings = PPOSettings.original() if task.lr is None else PPOSettings.original(lr=task.lr)
    settings = replace(settings, update_timestep=task.update_timestep)
    return PPO(task.space.space, seed=task.seed, states=task.states, settings=settings)


_ALL = (
    Method(
        name="default",
        summary="from the histograms' optimum coordinate descent, CMA-ES, and coordinate descent again",
        make=_in_turns,
        batch=_population,
        warm=True,
    ),
    Method(
        name="cmaes-dp",
        summary="CMA-ES from the histograms' optimum",
        make=lambda task: CMAES(task.space.space, seed=task.seed, start=task.start),
        batch=_population,
        warm=True,
    ),
    Method(
        name="coordinate",
        summary="coordinate descent from the histograms' optimum",
        make=lambda task: Coordinate(task.space.space, seed=task.seed, start=task.start),
        batch=_population,
        warm=True,
    ),
    Method(
        name="cmaes",
        summary="CMA-ES from the middle of the space",
        make=lambda task: CMAES(task.space.space, seed=task.seed),
        batch=_population,
    ),
    Method(name="tpe", summary="Parzen estimators", make=lambda task: TPE(task.space.space, seed=task.seed)),
    Method(name="gp", summary="a Gaussian process", make=lambda task: GP(task.space.space, seed=task.seed)),
    Method(
        name="evolution",
        summary="regularised evolution",
        make=lambda task: Evolution(task.space.space, seed=task.seed),
    ),
    Method(
        name="nsga2",
        summary="NSGA-II with the reward as its objective",
        make=lambda task: NSGA2(task.space.space, seed=task.seed),
    ),
    Method(
        name="random",
        summary="even draws",
        make=lambda task: Random(task.space.space, seed=task.seed),
        batch=lambda task: 32,
    ),
    Method(
        name="ppo",
        summary="PPO on all codes as one action, with the mean of the other episodes as baseline",
        make=_ppo,
        batch=lambda task: 16,
    ),
    Method(
        name="ppo-original",
        summary="the earlier project's PPO with its settings and ranges, layer by layer",
        make=_original_ppo,
        batch=lambda task: 32,
        masks="seed",
    ),
)
METHODS: Mapping[str, Method] = {method.name: method for method in _ALL}


def method_named(name: str) -> Method:
    """Return a method by name.

    Raises:
        ConfigError: there is none.

    >>> method_named("default").warm
    True
    """
    if name not in METHODS:
        raise ConfigError(f"method is {name!r}; expected one of {', '.join(METHODS)}")
    return METHODS[name]
