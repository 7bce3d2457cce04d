"""Searchers one after the other, each of which begins where the one before it came to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sparseflow.errors import ConfigError
from sparseflow.search.space import Params, Space
from sparseflow.search.trial import Outcome, Score, Searcher, Trial

__all__ = ["Leg", "Relay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One searcher of a relay.

    Args:
        make: makes it from the best parameters so far, None if there are none.
        trials: how many it proposes; None for the last one, which goes on to the end.

    Raises:
        ConfigError: less than one trial.
    """

    make: Callable[[Params | None], Searcher]
    trials: int | None = None

    def __post_init__(self) -> None:
        """Check the number."""
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"a leg of a relay has {self.trials} trials; expected at least 1")


class Relay:
    """Lets searchers take turns: one that is wide first, then one that is thorough beside the best.

    Each is told all outcomes of those before it, so that none proposes anything twice. One that has nothing left to
    propose gives way to the next.

    Args:
        space: what may be tried.
        legs: the searchers.

    Raises:
        ConfigError: no legs, or one before the last has no end.
    """

    def __init__(self, space: Space, legs: Sequence[Leg]) -> None:
        if not legs or any(leg.trials is None for leg in legs[:-1]):
            raise ConfigError("a relay needs legs, and each but the last a number of trials")
        self.space, self._legs = space, list(legs)
        self._at, self._left = 0, legs[0].trials
        self._ids = 0
        self._open: dict[int, Trial] = {}
        self._told: list[tuple[Trial, Outcome]] = []
        self._best: tuple[float, Params] | None = None
        self._searcher = legs[0].make(None)

    def ask(self, n: int) -> list[Trial]:
        """Return up to `n` new trials, all of one leg; none means that nothing is left to try."""
        while True:
            asked = self._searcher.ask(n if self._left is None else min(n, self._left)) if self._left != 0 else []
            if asked:
                break
            # A turn ends with its outcomes, which decide where the next one begins.
            if self._open or self._at + 1 == len(self._legs):
                return []
            self._pass_on()
        if self._left is not None:
            self._left -= len(asked)
        out = [Trial(id=self._ids + i, params=trial.params, info=trial.info) for i, trial in enumerate(asked)]
        self._open |= {mine.id: its for mine, its in zip(out, asked, strict=True)}
        self._ids += len(out)
        return out

    def tell(self, done: Sequence[tuple[Trial, Outcome]]) -> None:
        """Take the outcomes of trials that were asked for, or of any valid parameters."""
        ordered = sorted(done, key=lambda pair: pair[0].id)
        for trial, outcome in ordered:
            if not isinstance(outcome, Score) or self.space.reasons(trial.params):
                continue
            if self._best is None or outcome.value < self._best[0]:
                self._best = outcome.value, dict(trial.params)
        self._told += ordered
        self._searcher.tell([(self._open.pop(trial.id, trial), outcome) for trial, outcome in ordered])

    def _pass_on(self) -> None:
        self._at += 1
        leg = self._legs[self._at]
        self._left = leg.trials
        self._searcher = leg.make(None if self._best is None else self._best[1])
        if self._told:
            self._searcher.tell(self._told)
