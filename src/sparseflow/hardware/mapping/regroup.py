"""The best way to share out a few segments among two or three slots, by trying all."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sparseflow.hardware.mapping.neighbours import State
from sparseflow.hardware.mapping.objective import Floats
from sparseflow.hardware.mapping.terms import Terms

__all__ = ["regroup", "room"]

_MOST = 128


def room(groups: int) -> int:
    """Return how many segments `regroup` can share out among so many slots, of which there are two or more.

    >>> room(2), room(3), room(4)
    (7, 4, 3)
    """
    return int(np.log(_MOST + 0.5) / np.log(groups))


def regroup(terms: Terms, s: State, columns: NDArray[np.int64], who: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the mapping of least J in which segments `who` are anywhere on `columns` and all others stay.

    Links are left out of J. Where the best has the J of now, the one of least Σ busy⁴ is taken.

    Args:
        terms: of the problem.
        s: the mapping now.
        columns: `[G]` slots to share among.
        who: at most `room(G)` segments, rising, all on `columns` now.

    Returns:
        `[K]`, or None where no choice keeps the limits of memory or all are worse than now.
    """
    digits, chosen = _ways(len(columns), len(who))
    stay = np.ones(len(s.at), dtype=bool)
    stay[who] = False
    busy = np.empty((len(columns), len(digits)))
    linear = _pairs(terms, s.at, columns, who, digits)
    held = np.ones(len(digits), dtype=bool)
    weight, activation = terms.weight_mb[who], terms.activation_mb[who]
    for g, column in enumerate(columns):
        here = stay & (s.at == column)
        sums = chosen[g] @ np.stack([terms.load[who, column], terms.own[who, column], weight], 1)
        busy[g] = sums[:, 0] + terms.load[here, column].sum()
        linear += sums[:, 1]
        free = terms.limit_mb[column] * (1 + 1e-9) - terms.weight_mb[here].sum()
        largest = terms.activation_mb[here].max(initial=0.0)
        if weight.sum() + max(largest, activation.max()) > free:
            held &= sums[:, 2] + np.maximum(largest, (chosen[g] * activation).max(1)) <= free
    if not held.any():
        return None
    others = np.ones(len(s.busy), dtype=bool)
    others[columns] = False
    top = np.maximum(busy.max(0), s.busy[others].max(initial=0.0))
    cost = np.where(held, top + linear, np.inf)
    tied = np.flatnonzero(cost <= cost.min() * (1 + 1e-12))
    best = tied[(busy[:, tied] ** 4).sum(0).argmin()]
    at = s.at.copy()
    at[who] = columns[digits[best]]
    return at


def _pairs(
    terms: Terms, at: NDArray[np.int64], columns: NDArray[np.int64], who: NDArray[np.int64], digits: NDArray[np.int64]
) -> Floats:
    """Return `[C]`: what transfers to and from the segments cost in each choice."""
    total = np.zeros(len(digits))
    moved = {int(k): i for i, k in enumerate(who)}
    for k, i in moved.items():
        if k > 0 and k - 1 not in moved:
            total += terms.pair[k - 1, at[k - 1], columns][digits[:, i]]
        if k + 1 < len(at):
            if k + 1 in moved:
                total += terms.pair[k][np.ix_(columns, columns)][digits[:, i], digits[:, moved[k + 1]]]
            else:
                total += terms.pair[k, columns, at[k + 1]][digits[:, i]]
    return total


@lru_cache(maxsize=64)
def _ways(groups: int, count: int) -> tuple[NDArray[np.int64], Floats]:
    """Return all choices `[C, count]`, and `[groups, C, count]` whether each names a group."""
    digits = np.stack(np.unravel_index(np.arange(groups**count), (groups,) * count), 1)
    return digits, np.stack([(digits == g).astype(np.float64) for g in range(groups)])
