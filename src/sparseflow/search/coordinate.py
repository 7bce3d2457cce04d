"""Coordinate descent with shrinking steps, and kicks out of local optima."""

import math
from collections import deque
from dataclasses import dataclass

from sparseflow.errors import ConfigError
from sparseflow.search.encoding import Encoding
from sparseflow.search.parameter import Categorical, Value
from sparseflow.search.proposer import Learner
from sparseflow.search.space import Params, Space
from sparseflow.search.trial import Outcome, Score

__all__ = ["Coordinate"]

# A continuous axis is walked in this many cells.
_CELLS = 64


@dataclass(frozen=True, slots=True)
class _Move:
    """One step of one axis; no axis in a kick."""

    axis: int | None
    by: int
    base: float
    descent: int


class Coordinate(Learner[_Move]):
    """Changes one parameter at a time and keeps what helps.

    A sweep tries each axis up and down by its step, in random order. A move
    that helps is tried again at once, further on; so is one that helped less
    than another of the same batch, on top of that other. An axis that did not
    help in a sweep halves its step. When single steps help nowhere, a new
    descent begins beside the best, `kick` axes thrown. Where a batch asks for
    more than a sweep holds, gentler throws fill it up.

    Args:
        space: what may be tried.
        seed: seed of all draws.
        start: parameters to try first; a random draw if None.
        reach: first step, and standard deviation of a throw, in parts of an axis.
        kick: axes thrown on leaving a local optimum.

    Raises:
        ConfigError: `start` is not in the space, `reach` is not in (0, 1], or
            `kick` is less than 1.

    Source: ours; a pattern search (Hooke and Jeeves, JACM 1961) inside an
    iterated local search.
    """

    def __init__(
        self, space: Space, *, seed: int = 0, start: Params | None = None, reach: float = 0.125, kick: int = 3
    ) -> None:
        super().__init__(space, seed=seed, start=start, tries=500)
        if not 0 < reach <= 1 or kick < 1:
            raise ConfigError(f"expected 0 < reach <= 1 and kick >= 1; got reach={reach}, kick={kick}")
        self._encoding = Encoding(space)
        self._reach, self._kick = reach, kick
        self._sizes = [n or _CELLS for n in self._encoding.sizes]
        self._start = self._start if self._start is not None else space.sample(self._rng)
        self._here, self._value = dict(self._start), math.inf
        self._descent = 0
        self._queue: deque[tuple[int, int]] = deque()
        self._steps: list[int] | None = None
        self._helped: set[int] = set()

    def _suggest(self) -> tuple[_Move, dict[str, Value]]:
        while self._queue or (not self._open and self._sweep()):
            axis, by = self._queue.popleft()
            if (moved := self._moved(axis, by)) is not None:
                return _Move(axis, by, self._value, self._descent), moved
        waiting = bool(self._open)
        thrown = self._thrown(self._rng.randint(1, self._kick) if waiting else self._kick, waiting)
        if not waiting:
            self._descent += 1
            self._steps = None
            self._here, self._value = thrown, math.inf
        return _Move(None, 0, self._value, self._descent), thrown

    def _learn(self, ticket: _Move, params: dict[str, Value], outcome: Outcome) -> None:
        if ticket.descent != self._descent:
            self._observe(params, outcome)
            return
        # A move asked before the outcome of its start was in is judged by what is known of it now.
        base = ticket.base if math.isfinite(ticket.base) else self._value
        if not isinstance(outcome, Score) or not outcome.value < base:
            return
        if ticket.axis is not None:
            self._helped.add(ticket.axis)
            self._queue.appendleft((ticket.axis, ticket.by))
        if outcome.value < self._value:
            self._here, self._value = params, outcome.value

    def _observe(self, params: dict[str, Value], outcome: Outcome) -> None:
        if isinstance(outcome, Score) and self._best is not None and outcome.value <= self._best[0]:
            self._here, self._value = params, outcome.value

    def _sweep(self) -> bool:
        """Queue the moves of another sweep; False at a local optimum."""
        if self._steps is None:
            self._steps = [max(1, int(self._reach * n)) for n in self._sizes]
        elif not self._helped and max(self._steps) == 1:
            return False
        else:
            self._steps = [s if i in self._helped else max(1, s // 2) for i, s in enumerate(self._steps)]
        self._helped.clear()
        order = list(range(len(self._sizes)))
        self._rng.shuffle(order)
        for axis in order:
            if isinstance(self.space.parameters[axis], Categorical):
                ways = list(range(1, self._sizes[axis]))
            else:
                ways = [self._steps[axis], -self._steps[axis]]
            self._rng.shuffle(ways)
            self._queue.extend((axis, by) for by in ways)
        return bool(self._queue)

    def _moved(self, axis: int, by: int) -> dict[str, Value] | None:
        p, n = self.space.parameters[axis], self._sizes[axis]
        if p.name not in self._here:
            return None
        point = self._encoding.encode(self._here)
        if isinstance(p, Categorical):
            point[axis] = (point[axis] + by / n) % 1.0
        else:
            point[axis] = min(max(point[axis] + by / n, 0.0), 1.0)
        moved = self._encoding.decode(point)
        return None if moved == self._here else moved

    def _thrown(self, axes: int, gently: bool) -> dict[str, Value]:
        middle = self._encoding.encode(self._here if self._best is None else self._best[1])
        for _ in range(20):
            point = list(middle)
            spread = self._reach * 0.5 ** (self._rng.randrange(4) if gently else 0)
            for axis in self._rng.sample(range(len(point)), min(axes, len(point))):
                if isinstance(self.space.parameters[axis], Categorical):
                    point[axis] = self._rng.random()
                else:
                    point[axis] += self._rng.gauss(0.0, spread)
            thrown = self._encoding.decode(point)
            if not self.space.reasons(thrown):
                return thrown
        return self.space.sample(self._rng)
