"""Mappings by local search: greedy starts, shared-out groups and a tabu walk over relocations and swaps."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import BudgetError
from sparseflow.hardware.mapping.neighbours import Neighbourhood, State
from sparseflow.hardware.mapping.objective import Floats, MappingProblem, evaluate
from sparseflow.hardware.mapping.regroup import regroup, room
from sparseflow.hardware.mapping.solution import Solution
from sparseflow.hardware.mapping.terms import Terms
from sparseflow.hardware.mapping.viterbi import cheapest_through

__all__ = ["solve_search"]

# Σ busy⁴ weighs so much of J, to lead the walk over plains where the fullest slot stays the same.
_POWER = 0.02
_PATIENCE = 60


def solve_search(
    problem: MappingProblem,
    *,
    restarts: int = 7,
    steps: int = 80,
    tries: int = 50,
    seed: int = 0,
    start: NDArray[np.integer] | None = None,
) -> Solution:
    """Return the best mapping of a local search.

    Starts are `start`, then by turns a greedy mapping (largest segment first, each where it ends earliest) of noisy
    sizes and the best mapping so far with a fifth of its segments elsewhere. From each, `regroup` shares out the
    segments of two or three slots, then a tabu walk takes the best relocation, or swap where no relocation helps.
    Memory beyond limits costs a price that grows while limits are broken and shrinks while they are kept, so that the
    walk crosses them to and fro; only mappings without violations are kept. Places at which a segment alone costs as
    much as the best mapping so far are closed from then on; where a segment has none left, the best mapping is within
    a thousandth of the optimum, and the search ends.

    Args:
        problem: segments and slots.
        restarts: starts.
        steps: of each walk.
        tries: groups to share out before and after each walk.
        seed: of all choices; the same seed finds the same mapping.
        start: `[K]` a mapping to begin from.

    Raises:
        BudgetError: no mapping without violations was found.

    Source: Glover, ORSA Journal on Computing 1989 (tabu search); the rest ours.
    """
    terms = Terms.of(problem)
    if not terms.fits().any(1).all():
        raise BudgetError("a segment fits into no slot; give larger memory limits or smaller segments")
    walk = _Search(terms, np.random.default_rng(seed))
    at = None if start is None else walk.columns(np.asarray(start))
    for n in range(restarts):
        if n or at is None:
            at = walk.greedy(0.5 if n else 0.0) if walk.best is None or n % 2 == 0 else walk.kicked(walk.best)
        state = walk.walk(walk.share(walk.seen(at), tries), steps)
        walk.share(state if walk.best is None else walk.near.state(walk.best), tries)
        if walk.is_closed():
            break
    if walk.best is None:
        raise BudgetError(
            f"{restarts} local searches met no mapping that keeps the slots' memory limits; give more restarts, or "
            "strategy 'cp_sat', which can prove that there is none"
        )
    mapping = terms.slots[walk.best]
    return Solution(mapping=mapping, cost=evaluate(problem, mapping))


class _Search:
    """The best mapping so far, and the moves that look for better ones."""

    def __init__(self, terms: Terms, rng: np.random.Generator) -> None:
        self.terms, self.near, self._rng = terms, Neighbourhood(terms), rng
        self._k, self._u = terms.load.shape
        self._rows, self._cols = np.arange(self._k), np.arange(self._u)
        self._fits, self._own = terms.fits(), terms.own
        size_mb = float((terms.weight_mb + terms.activation_mb).mean())
        # A mean segment's memory in excess costs as much as three mean segments.
        self._price = 3 * float((terms.load + terms.own).mean()) / size_mb if size_mb > 0 else 0.0
        self.best: NDArray[np.int64] | None = None
        self._least = np.inf
        self._busy = bool(terms.load.any())
        self._alone = terms.load + cheapest_through(terms.own, terms.pair)[0]

    def columns(self, mapping: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return a mapping's columns; segments on slots that are not usable go to the fastest."""
        place = np.full(max(int(self.terms.slots.max()), int(mapping.max())) + 1, -1)
        place[self.terms.slots] = self._cols
        fast = np.where(self._fits, self.terms.load + self.terms.own, np.inf).argmin(1)
        return np.asarray(np.where(place[mapping] >= 0, place[mapping], fast))

    def seen(self, at: NDArray[np.int64]) -> State:
        """Return the state of a mapping, and keep it where it is the best."""
        state = self.near.state(at)
        if state.objective < self._least and not state.excess_mb.any():
            self.best, self._least = state.at.copy(), state.objective
        return state

    def is_closed(self) -> bool:
        """Close places that no mapping better by a thousandth has; return whether a segment has no place left."""
        if self.best is None:
            return False
        closed = self._alone >= self._least * (1 - 1e-3)
        # A price far beyond all others, not infinity, with which sums of chosen and other places would be NaN.
        own = np.where(closed, self._own + 10 * self._least, self._own)
        self.terms = replace(self.terms, own=own)
        self.near = Neighbourhood(self.terms)
        return bool((closed | ~self._fits).all(1).any())

    def greedy(self, noise: float) -> NDArray[np.int64]:
        """Return a mapping: segments by falling size, each where its slot is done first."""
        t = self.terms
        size = (t.load + t.own).min(1) * np.exp(noise * self._rng.standard_normal(self._k))
        at = np.full(self._k, -1)
        busy, weight, largest = np.zeros((3, self._u))
        for i in np.argsort(-size):
            need = weight + t.weight_mb[i] + np.maximum(largest, t.activation_mb[i])
            cost = busy + t.load[i] + t.own[i] + self._price * np.maximum(need - t.limit_mb, 0.0)
            if i and at[i - 1] >= 0:
                cost = cost + t.pair[i - 1, at[i - 1]]
            if i + 1 < self._k and at[i + 1] >= 0:
                cost = cost + t.pair[i, :, at[i + 1]]
            j = int(cost.argmin())
            at[i] = j
            busy[j] += t.load[i, j]
            weight[j] += t.weight_mb[i]
            largest[j] = max(largest[j], t.activation_mb[i])
        return at

    def kicked(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a mapping with a fifth of its segments, at least two, elsewhere at random."""
        at = at.copy()
        for i in self._rng.permutation(self._k)[: max(2, self._k // 5)]:
            at[i] = self._rng.choice(np.flatnonzero(self._fits[i] & (self.terms.own[i] <= self._own[i])))
        return at

    def share(self, s: State, tries: int) -> State:
        """Share out groups of segments, mostly those of the fullest slot and of others."""
        tried: set[tuple[int, ...]] = set()
        for _ in range(tries if self._u > 1 else 0):
            groups = min(self._u, 2 if self._rng.random() < 0.3 else 3)
            full = self._busy and self._rng.random() < 0.7
            first = int(s.busy.argmax()) if full else int(self._rng.integers(self._u))
            others = self._rng.permutation(self._u).tolist()
            columns = [first, *[j for j in others if j != first][: groups - 1]]
            on = [k for k, j in enumerate(s.at.tolist()) if j in columns]
            who = sorted(self._rng.permutation(on)[: room(groups)].tolist()) if on else []
            # The same group of an unchanged mapping comes out the same.
            key = (*sorted(columns), -1, *who)
            if not who or key in tried:
                continue
            tried.add(key)
            at = regroup(self.terms, s, np.array(columns), np.array(who))
            if at is None or (at == s.at).all():
                continue
            new = self.seen(at)
            if new.objective <= s.objective * (1 + 1e-12) or new.excess_mb.sum() < s.excess_mb.sum():
                s = new
                tried.clear()
        return s

    def walk(self, s: State, steps: int) -> State:
        """Take the best change that is not tabu, step by step, until nothing better was seen for long."""
        tabu = np.zeros((self._k, self._u), dtype=np.int64)
        price, quiet = self._price, 0
        for step in range(steps):
            full = float(s.busy.max())
            power = _POWER / full**3 if full > 0 else 0.0
            banned = tabu > step
            score = self._score(self.near.relocations(s), banned, power, price)
            score[self._rows, s.at] = np.inf
            i, j = divmod(int(score.argmin()), self._u)
            now = s.objective + power * float((s.busy * s.busy) @ (s.busy * s.busy)) + price * float(s.excess_mb.sum())
            at = s.at.copy()
            until = step + 1 + int(self._rng.integers(3, 4 + self._k // 3))
            pairs = None
            if score[i, j] >= now * (1 - 1e-9):
                there = banned[:, s.at]
                pairs = self._score(self.near.swaps(s), there | there.T, power, price)
                pairs[s.same] = np.inf
            if pairs is not None and pairs.min() < score[i, j]:
                a, b = divmod(int(pairs.argmin()), self._k)
                tabu[a, at[a]] = tabu[b, at[b]] = until
                at[a], at[b] = at[b], at[a]
            elif np.isfinite(score[i, j]):
                tabu[i, at[i]] = until
                at[i] = j
            else:
                break
            before = self._least
            s = self.seen(at)
            price = price * 1.15 if s.excess_mb.any() else max(price / 1.1, self._price * 0.02)
            quiet = 0 if self._least < before else quiet + 1
            if quiet > _PATIENCE:
                break
        return s

    def _score(
        self, change: tuple[Floats, Floats, Floats], banned: NDArray[np.bool_], power: float, price: float
    ) -> Floats:
        cost, fourth, excess = change
        score = cost + price * excess
        if self._busy:
            score += power * fourth
        score[banned & ((cost >= self._least) | (excess != 0))] = np.inf
        return score
