"""The exact mapping among those in which every slot holds neighbours, by dynamic programming."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping.objective import Floats, MappingProblem, evaluate
from sparseflow.hardware.mapping.solution import NO_MAPPING, Solution
from sparseflow.hardware.mapping.terms import Terms

__all__ = ["solve_dp"]

_MOST_STATES = 1 << 14


def solve_dp(problem: MappingProblem) -> Solution:
    """Return the mapping of least J among those in which the segments of every slot are neighbours.

    Slots that could be exchanged without a change of any cost are one class, and a state is how many of each class are
    taken and the class of the last. V(T)[i, state] is the least Σ own + Σ pair of segments before i with no stage and
    no transfer above T ms, from V[j, state − last] and the stage j..i-1. J = T + V(T) is taken at T = ∞, then at each
    next lower period that the solution before leaves, until even V(∞) could not make up for T: O(K²) operations on
    all states for each T.

    Returns:
        The optimum of its kind, which `bound` speaks of; a mapping that comes back to a slot may be better.

    Raises:
        UnsupportedError: the slots have too many states, as 16 that all differ; says how many.
        BudgetError: no such mapping keeps the memory limits.
    """
    stages = _Stages.of(Terms.of(problem))
    best, least = None, np.inf
    floor = stages.cheapest(np.inf)[0]
    limit = np.inf
    while True:
        value, runs = stages.cheapest(limit)
        if runs is None:
            break
        period = stages.period(runs)
        if period + value < least:
            best, least = runs, period + value
        # All that is left has a period below this one, and at least `floor` besides.
        if period <= 0 or stages.shortest + floor >= least:
            break
        limit = np.nextafter(period, 0.0)
    if best is None:
        raise BudgetError(NO_MAPPING)
    mapping = stages.mapping(best)
    cost = evaluate(problem, mapping)
    return Solution(mapping=mapping, cost=cost, bound=cost.objective, optimal=True)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stages:
    """Costs of runs of segments on classes of slots.

    Args:
        terms: of the problem.
        classes: columns of each class.
        load: `[K, K + 1, M]` of segments j..i-1; inf where they do not fit.
        own: `[K, K + 1, M]`.
        shortest: ms, below which no period is.
    """

    terms: Terms
    classes: tuple[tuple[int, ...], ...]
    load: Floats
    own: Floats
    shortest: float

    @classmethod
    def of(cls, t: Terms) -> "_Stages":
        classes = _classes(t)
        states = int(np.prod([len(c) + 1 for c in classes])) * len(classes)
        if states > _MOST_STATES:
            raise UnsupportedError(
                f"{len(t.slots)} slots of {len(classes)} classes have {states} states, more than {_MOST_STATES}; "
                "use strategy 'search' or 'cp_sat'"
            )
        k, first = len(t.load), [c[0] for c in classes]
        load, own = np.full((k, k + 1, len(first)), np.inf), np.zeros((k, k + 1, len(first)))
        for j in range(k):
            need = t.weight_mb[j:].cumsum() + np.maximum.accumulate(t.activation_mb[j:])
            fits = need[:, None] <= t.limit_mb[first] * (1 + 1e-9)
            load[j, j + 1 :] = np.where(fits, t.load[j:, first].cumsum(0), np.inf)
            own[j, j + 1 :] = t.own[j:, first].cumsum(0)
        alone = load[np.arange(k), np.arange(1, k + 1)].min(1)
        return cls(terms=t, classes=classes, load=load, own=own, shortest=float(alone.max()))

    def cheapest(self, limit: float) -> tuple[float, list[tuple[int, int, int]] | None]:
        """Return the least Σ own + Σ pair with no stage or transfer above `limit`, and its runs (j, i, class)."""
        t, k, m = self.terms, len(self.load), len(self.classes)
        sizes = tuple(len(c) + 1 for c in self.classes)
        first = [c[0] for c in self.classes]
        # A second slot of the same class, where there is one, stands for a transfer within the class.
        twin = [c[-1] for c in self.classes]
        value = np.full((k + 1, m, *sizes), np.inf)
        came = np.zeros((k + 1, m, *sizes, 2), dtype=np.int16)
        for i in range(1, k + 1):
            for c in range(m):
                taken: list[Any] = [slice(None)] * m
                left = list(taken)
                taken[c], left[c] = slice(1, None), slice(None, -1)
                here, there = value[i, c][tuple(taken)], came[i, c][tuple(taken)]
                if self.load[0, i, c] <= limit:
                    start = tuple(int(n == c) for n in range(m))
                    value[i, c][start] = self.own[0, i, c]
                    came[i, c][start] = (0, -1)
                for j in range(1, i):
                    if self.load[j, i, c] > limit:
                        continue
                    for b in range(m):
                        a_column, b_column = first[b], twin[c] if b == c else first[c]
                        if a_column == b_column or t.wire[j - 1, a_column, b_column] > limit:
                            continue
                        through = value[j, b][tuple(left)] + (self.own[j, i, c] + t.pair[j - 1, a_column, b_column])
                        better = through < here
                        here[better] = through[better]
                        there[better] = (j, b)
        ends = value[k].reshape(m, -1)
        if not np.isfinite(ends).any():
            return np.inf, None
        c, flat = divmod(int(ends.argmin()), ends.shape[1])
        counts = [int(n) for n in np.unravel_index(flat, sizes)]
        least, runs, i = float(ends[c, flat]), [], k
        while c >= 0:
            j, before = (int(n) for n in came[i, c][tuple(counts)])
            runs.append((j, i, c))
            counts[c] -= 1
            i, c = j, before
        return least, runs[::-1]

    def mapping(self, runs: list[tuple[int, int, int]]) -> NDArray[np.int64]:
        """Return `[K]`: each run on the next free slot of its class."""
        free = [list(c) for c in self.classes]
        at = np.empty(len(self.load), dtype=np.int64)
        for j, i, c in runs:
            at[j:i] = self.terms.slots[free[c].pop(0)]
        return at

    def period(self, runs: list[tuple[int, int, int]]) -> float:
        """Return the longest stage or transfer."""
        column = {int(slot): n for n, slot in enumerate(self.terms.slots)}
        at = [column[int(slot)] for slot in self.mapping(runs)]
        wires = [float(self.terms.wire[j - 1, at[j - 1], at[j]]) for j, _, _ in runs[1:]]
        return max([float(self.load[run]) for run in runs] + wires)


def _classes(t: Terms) -> tuple[tuple[int, ...], ...]:
    """Return columns in groups; to exchange two of a group changes no cost."""
    groups: list[list[int]] = []
    for b in range(len(t.slots)):
        for group in groups:
            if _alike(t, group[0], b):
                group.append(b)
                break
        else:
            groups.append([b])
    return tuple(tuple(g) for g in groups)


def _alike(t: Terms, a: int, b: int) -> bool:
    order = np.arange(len(t.slots))
    order[[a, b]] = b, a
    same = all(np.array_equal(x[:, a], x[:, b]) for x in (t.load, t.own)) and t.limit_mb[a] == t.limit_mb[b]
    return same and all(np.array_equal(x[:, order][:, :, order], x) for x in (t.pair, t.wire))
