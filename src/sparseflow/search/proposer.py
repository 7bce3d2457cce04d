"""What searchers share: numbering, no repetition, and learning from outcomes."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from sparseflow.errors import ConfigError
from sparseflow.search.parameter import Value
from sparseflow.search.space import Params, Space, canonical
from sparseflow.search.trial import Failure, Outcome, Score, Trial

__all__ = ["Learner", "Proposer"]

_TRIES = 50
_Ticket = TypeVar("_Ticket")


class Proposer(ABC):
    """Numbers trials and never proposes the same parameters twice.

    Args:
        space: what may be tried.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._seen: set[str] = set()
        self._ids = 0
        self._left: list[dict[str, Value]] | None = None

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` new trials; none means that nothing is left to try.

        Raises:
            ConfigError: `n` is less than 1, or the space has no valid member.
        """
        if n < 1:
            raise ConfigError(f"asked a searcher for {n} trials; ask for at least one")
        out: list[Trial] = []
        while len(out) < n and (params := self._propose()) is not None:
            text = canonical(params)
            self._seen.add(text)
            out.append(Trial(id=self._ids, params=params, info=self._info(text)))
            self._ids += 1
        return out

    def tell(self, done: Sequence[tuple[Trial, Outcome]]) -> None:
        """Take the outcomes of trials that were asked for, or of any valid parameters."""
        self._seen.update(canonical(trial.params) for trial, _ in done)

    @abstractmethod
    def _propose(self) -> dict[str, Value] | None: ...

    def _info(self, text: str) -> Mapping[str, Any]:
        return {}

    def _is_new(self, params: Params) -> bool:
        return canonical(params) not in self._seen

    def _draw(self, rng: random.Random) -> dict[str, Value] | None:
        """Draw parameters not seen yet; None if there are none or none was found."""
        if self._left is None:
            for _ in range(_TRIES):
                if self._is_new(drawn := self.space.sample(rng)):
                    return drawn
            if not self.space.is_listable:
                return None
            self._left = list(self.space.enumerate())
            rng.shuffle(self._left)
        while self._left:
            if self._is_new(drawn := self._left.pop()):
                return drawn
        return None


class Learner(Proposer, Generic[_Ticket]):
    """Proposes what a model suggests, and teaches the model every outcome.

    A suggestion comes with a ticket, by which the model knows it again. One
    that repeats what was told before costs no trial: the model learns the old
    outcome at once and suggests anew. So does one that breaks a constraint,
    which counts as a failure. After `tries` repetitions the trial is a new
    neighbour of the best, and where there is none, a random draw.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        start: parameters to try first.
        tries: how many suggestions are asked of the model for one trial.

    Raises:
        ConfigError: `start` is not in the space.
    """

    def __init__(self, space: Space, *, seed: int = 0, start: Params | None = None, tries: int = _TRIES) -> None:
        super().__init__(space)
        if start is not None:
            space.check(start)
        self._rng = random.Random(seed)
        self._start = None if start is None else dict(start)
        self._tries = tries
        self._known: dict[str, Outcome] = {}
        self._open: dict[str, list[_Ticket]] = {}
        self._best: tuple[float, dict[str, Value]] | None = None

    def tell(self, done: Sequence[tuple[Trial, Outcome]]) -> None:
        """Take outcomes in the order of the trials; those outside the space teach nothing."""
        super().tell(done)
        for trial, outcome in sorted(done, key=lambda pair: pair[0].id):
            if self.space.reasons(trial.params):
                continue
            params, text = dict(trial.params), canonical(trial.params)
            self._known[text] = outcome
            if isinstance(outcome, Score) and (self._best is None or outcome.value < self._best[0]):
                self._best = (outcome.value, params)
            tickets = self._open.pop(text, [])
            for ticket in tickets:
                self._learn(ticket, params, outcome)
            if not tickets:
                self._observe(params, outcome)

    @abstractmethod
    def _suggest(self) -> tuple[_Ticket, dict[str, Value]]:
        """Return complete parameters, valid but perhaps for the constraints, and their ticket."""

    @abstractmethod
    def _learn(self, ticket: _Ticket, params: dict[str, Value], outcome: Outcome) -> None:
        """Take the outcome of a suggestion."""

    def _observe(self, params: dict[str, Value], outcome: Outcome) -> None:
        """Take the outcome of parameters that the model did not suggest; most models cannot use it."""
        return

    def _propose(self) -> dict[str, Value] | None:
        if self._start is not None:
            start, self._start = self._start, None
            if self._is_new(start):
                return start
        # Once the rest of a small space has been listed, models would only repeat themselves.
        for _ in range(self._tries if self._left is None else 0):
            ticket, params = self._suggest()
            text = canonical(params)
            if reasons := self.space.reasons(params):
                self._learn(ticket, params, Failure(reason="; ".join(reasons)))
            elif text in self._known:
                self._learn(ticket, params, self._known[text])
            else:
                self._open.setdefault(text, []).append(ticket)
                if text not in self._seen:
                    return params
        return self._beside_the_best() or self._draw(self._rng)

    def _beside_the_best(self) -> dict[str, Value] | None:
        if self._best is None or self._left is not None:
            return None
        fresh = [p for p in self.space.neighbours(self._best[1]) if self._is_new(p)]
        return self._rng.choice(fresh) if fresh else None
