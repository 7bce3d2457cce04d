"""CMA-ES on the unit cube of a space."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sparseflow.errors import ConfigError
from sparseflow.search._extra import extra
from sparseflow.search.encoding import Encoding
from sparseflow.search.parameter import Value
from sparseflow.search.proposer import Learner
from sparseflow.search.space import Params, Space
from sparseflow.search.trial import Outcome, Score

__all__ = ["CMAES"]

_Point = npt.NDArray[np.float64]
_Ticket = tuple[int, _Point]
_AROUND_START, _ANYWHERE = 0.08, 0.25
# In many dimensions hardly a draw lies within all bounds; the ends serve as well.
_RESAMPLING = 4


class CMAES(Learner[_Ticket]):
    """Covariance matrix adaptation: a Gaussian on the unit cube that moves to what scored well.

    Every parameter is an axis of a relative `Encoding`; whole and listed ones
    are rounded, choices without order are treated as if they had one. The
    distribution learns whenever as many outcomes as a population holds are
    in, whichever trials they belong to; for trials asked in batches, a population of that size fits best;
    failures rank behind every score. Once it has collapsed it begins anew
    around the best.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        start: parameters to try first, and the first mean; the middle of the
            cube if None.
        sigma: first standard deviation, in parts of an axis. None means .08
            around a start and .25 without.
        population: outcomes learned from at a time; None means 4 + ⌊3 ln D⌋
            for D axes.

    Raises:
        ConfigError: `start` is not in the space, `sigma` is not positive, or
            `population` is less than 4.
        UnsupportedError: package cmaes is not installed.

    Source: Hansen, arXiv:1604.00772; package cmaes. On made-up layers of
    ordered codes rounding in a relative encoding did better than a margin (Hamano et al.,
    GECCO 2022) or a fixed encoding: a repeated draw costs no trial, and a
    Gaussian that froze begins anew.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int = 0,
        start: Params | None = None,
        sigma: float | None = None,
        population: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed, start=start)
        if sigma is not None and not sigma > 0:
            raise ConfigError(f"sigma is {sigma}; expected a positive part of an axis, as .08")
        if population is not None and population < 4:
            raise ConfigError(f"population is {population}; expected at least 4")
        self._package = extra("cmaes", "a CMA-ES search")
        self._encoding = Encoding(space, relative=True)
        self._sigma = sigma if sigma is not None else _ANYWHERE if start is None else _AROUND_START
        self._population = population
        self._seed, self._restarts = seed, 0
        self._middle = np.array(self._encoding.encode(start) if start else [0.5] * len(space.parameters))
        # An axis with a single value has nothing to adapt.
        self._free = [i for i, n in enumerate(self._encoding.sizes) if n != 1]
        self._told: list[tuple[_Point, float | None]] = []
        self._model = self._begin(self._middle)

    def _begin(self, mean: _Point) -> Any:
        if not self._free:
            return None
        return self._package.CMA(
            mean=mean[self._free],
            sigma=self._sigma,
            bounds=np.tile([0.0, 1.0], (len(self._free), 1)),
            n_max_resampling=_RESAMPLING,
            seed=(self._seed + self._restarts) % 2**32,
            population_size=self._population,
        )

    def _suggest(self) -> tuple[_Ticket, dict[str, Value]]:
        point = self._middle.copy()
        if self._model is None:
            return (self._restarts, point), self._encoding.decode(point.tolist())
        drawn = self._model.ask()
        point[self._free] = drawn
        return (self._restarts, drawn), self._encoding.decode(point.tolist())

    def _learn(self, ticket: _Ticket, params: dict[str, Value], outcome: Outcome) -> None:
        # A point of a Gaussian that collapsed lies too far from the next to be learned from.
        if self._model is None or ticket[0] != self._restarts:
            return
        self._told.append((ticket[1], outcome.value if isinstance(outcome, Score) else None))
        size = self._model.population_size
        if len(self._told) < size:
            return
        values = [value for _, value in self._told if value is not None]
        behind = max(values, default=0.0) + 1.0
        self._model.tell([(x, behind if value is None else value) for x, value in self._told])
        self._told = []
        if self._model.should_stop():
            self._restarts += 1
            best = self._middle if self._best is None else np.array(self._encoding.encode(self._best[1]))
            self._model = self._begin(best)
