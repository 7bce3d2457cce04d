"""The best way to share out a few segments among two or three slots, by trying all."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sparseflow.hardware.mapping.neighbours import State
from sparseflow.hardware.mapping.objective import Floats
from sparseflow.hardware.mapping.terms import Terms

__all__ = ["regroup", "room"]

_MOST = 1024


def room(groups: int) -> int:
    """Return how many segments `regroup` can share out among so many slots, of which there are two or more.

    >>> room(2), room(3), room(4)
    (10, 6, 5)
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
    top = np.zeros(len(digits))
    power = np.zeros(len(digits))
    held = np.ones(len(digits), dtype=bool)
    own = terms.own[who][:, columns]
    linear = np.zeros(len(digits))
    for g, column in enumerate(columns):
        here = stay & (s.at == column)
        busy = terms.load[here, column].sum() + chosen[g] @ terms.load[who, column]
        weight = terms.weight_mb[here].sum() + chosen[g] @ terms.weight_mb[who]
        largest = np.maximum(terms.activation_mb[here].max(initial=0.0), (chosen[g] * terms.activation_mb[who]).max(1))
        held &= weight + largest <= terms.limit_mb[column] * (1 + 1e-9)
        np.maximum(top, busy, out=top)
        power += busy**4
        linear += chosen[g] @ own[:, g]
    if not held.any():
        return None
    linear += _pairs(terms, s.at, columns, who, digits)
    others = np.ones(len(s.busy), dtype=bool)
    others[columns] = False
    top = np.maximum(top, s.busy[others].max(initial=0.0))
    cost = np.where(held, top + linear, np.inf)
    least = cost.min()
    tied = np.flatnonzero(cost <= least * (1 + 1e-12))
    best = tied[power[tied].argmin()]
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
