"""The best way to share out a few segments among two or three slots, by trying all."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sparseflow.hardware.mapping.neighbours import State
from sparseflow.hardware.mapping.objective import Floats
from sparseflow.hardware.mapping.terms import Terms

__all__ = ["regroup", "room"]

_MOST = 128


@lru_cache(maxsize=64)
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
    ways = _ways(len(columns), len(who))
    count, flat = len(ways.digits), who[:, None] * len(s.busy) + columns
    linear = s.through.take(flat).ravel() @ ways.chosen.reshape(-1, count)
    near = (who[1:] - who[:-1] == 1).nonzero()[0]
    if len(near):
        linear += _between(terms, s.at, columns, who[near]).take(ways.both[near] + ways.table[: len(near)]).sum(0)
    stay = s.at[:, None] == columns
    stay[who] = False
    cost, busy = linear, None
    if s.busy.any():
        busy = (terms.load.take(flat)[:, :, None] * ways.chosen).sum(0)
        busy += (terms.load.take(columns, 1) * stay).sum(0)[:, None]
        others = s.busy.copy()
        others[columns] = 0.0
        cost = linear + np.maximum(busy.max(0), others.max())
    weight, activation = terms.weight_mb[who], terms.activation_mb[who]
    free = terms.limit_mb[columns] * (1 + 1e-9) - terms.weight_mb @ stay
    largest = (terms.activation_mb[:, None] * stay).max(0)
    if (weight.sum() + np.maximum(largest, activation.max()) > free).any():
        need = np.maximum(largest[:, None], (ways.chosen * activation[:, None, None]).max(0))
        need += (weight @ ways.chosen.reshape(len(who), -1)).reshape(-1, count)
        cost[(need > free[:, None]).any(0)] = np.inf
    least = float(cost.min())
    if least == np.inf:
        return None
    tied = (cost <= least * (1 + 1e-12)).nonzero()[0]
    best = tied[(busy[:, tied] ** 4).sum(0).argmin()] if busy is not None and len(tied) > 1 else tied[0]
    at = s.at.copy()
    at[who] = columns[ways.digits[best]]
    return at


def _between(terms: Terms, at: NDArray[np.int64], columns: NDArray[np.int64], first: NDArray[np.int64]) -> Floats:
    """Return `[N, G, G]`: transfers between two neighbours that both move, beyond what `through` counts of each."""
    u = terms.load.shape[1]
    k, a, b = (first * u * u)[:, None], at[first][:, None], at[first + 1][:, None]
    both = terms.pair.take(k[:, None] + columns[:, None] * u + columns)
    both -= terms.pair.take(k + columns * u + b)[:, :, None]
    both -= terms.pair.take(k + a * u + columns)[:, None]
    return np.asarray(both)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ways:
    """All choices of groups for some segments.

    Args:
        digits: `[C, N]` group of each segment.
        chosen: `[N, G, C]` whether it is that group.
        both: `[N - 1, C]` group of a segment times G, and group of the next.
        table: `[N, 1]` multiples of G².
    """

    digits: NDArray[np.int64]
    chosen: Floats
    both: NDArray[np.int64]
    table: NDArray[np.int64]


@lru_cache(maxsize=64)
def _ways(groups: int, count: int) -> _Ways:
    digits = np.stack(np.unravel_index(np.arange(groups**count), (groups,) * count), 1)
    return _Ways(
        digits=digits,
        chosen=np.ascontiguousarray(np.arange(groups)[:, None] == digits.T[:, None], dtype=np.float64),
        both=np.ascontiguousarray((digits[:, :-1] * groups + digits[:, 1:]).T),
        table=np.arange(count)[:, None] * groups**2,
    )
