"""Searchers: random, exhaustive, and regularised evolution."""

import random
from collections import deque
from collections.abc import Iterator, Sequence

from sparseflow.errors import ConfigError
from sparseflow.search.parameter import Value
from sparseflow.search.proposer import Proposer
from sparseflow.search.space import Space
from sparseflow.search.trial import Outcome, Score, Trial

__all__ = ["Evolution", "Exhaustive", "Random"]


class Random(Proposer):
    """Draws independently, without repetition; ends when a listable space is used up.

    Args:
        space: what may be tried.
        seed: seed of the draws.
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        super().__init__(space)
        self._rng = random.Random(seed)

    def _propose(self) -> dict[str, Value] | None:
        return self._draw(self._rng)


class Exhaustive(Proposer):
    """Tries every member of a finite space, in the order of `Space.enumerate`.

    Args:
        space: what may be tried.
        seed: not used; taken so that all searchers are made alike.

    Raises:
        ConfigError: the space is continuous.
    """

    def __init__(self, space: Space, *, seed: int = 0) -> None:
        super().__init__(space)
        if not space.is_finite:
            raise ConfigError("an exhaustive search needs a finite space; use Random or Evolution")
        self._rest: Iterator[dict[str, Value]] = space.enumerate()

    def _propose(self) -> dict[str, Value] | None:
        return next((p for p in self._rest if self._is_new(p)), None)


class Evolution(Proposer):
    """Regularised evolution: the best of a few mutates, the oldest dies.

    The first `population` trials are random. Then each trial changes one
    choice or step of the best among `tournament` drawn from the living; with
    every new score the oldest of the living leaves, good or not. Failures are
    remembered but never live. Where no unseen neighbour is left it draws at random.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        population: how many live.
        tournament: how many compete to be the parent.

    Raises:
        ConfigError: not 1 <= tournament <= population.

    Source: Real et al., AAAI 2019, algorithm 1.
    """

    def __init__(self, space: Space, *, seed: int = 0, population: int = 24, tournament: int = 6) -> None:
        super().__init__(space)
        if not 1 <= tournament <= population:
            raise ConfigError(
                f"evolution needs 1 <= tournament <= population; got tournament={tournament}, population={population}"
            )
        self._rng = random.Random(seed)
        self._population = population
        self._tournament = tournament
        self._living: deque[tuple[float, dict[str, Value]]] = deque(maxlen=population)

    def tell(self, done: Sequence[tuple[Trial, Outcome]]) -> None:
        """Take outcomes; scores of valid parameters join the living, in the order of the trials."""
        super().tell(done)
        for trial, outcome in sorted(done, key=lambda pair: pair[0].id):
            if isinstance(outcome, Score) and not self.space.reasons(trial.params):
                self._living.append((outcome.value, dict(trial.params)))

    def _propose(self) -> dict[str, Value] | None:
        if self._ids >= self._population and self._living:
            rivals = self._rng.sample(list(self._living), min(self._tournament, len(self._living)))
            parent = min(rivals, key=lambda pair: pair[0])[1]
            fresh = [p for p in self.space.neighbours(parent) if self._is_new(p)]
            if fresh:
                return self._rng.choice(fresh)
        return self._draw(self._rng)
