"""What every single change of a mapping would cost, all at once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparseflow.hardware.mapping.objective import Floats
from sparseflow.hardware.mapping.terms import Terms

__all__ = ["Neighbourhood", "State"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class State:
    """Sums of one mapping, in columns of `Terms`.

    Args:
        at: `[K]` column of each segment.
        same: `[K, K]` whether two segments are on one column.
        busy: `[U]` ms.
        link: `[U, U]` ms.
        weight_mb: `[U]`.
        largest_mb: `[U]` activations.
        others_mb: `[K]` largest activations on a segment's slot without its own.
        excess_mb: `[U]` memory beyond the limit.
        through: `[K, U]` ms: own, and transfers to and from a segment, were it alone on another column.
        linear: Σ own + Σ pair, ms.
        fullest: largest load of a slot or a link, ms.
    """

    at: NDArray[np.int64]
    same: NDArray[np.bool_]
    busy: Floats
    link: Floats
    weight_mb: Floats
    largest_mb: Floats
    others_mb: Floats
    excess_mb: Floats
    through: Floats
    linear: float
    fullest: float

    @property
    def objective(self) -> float:
        """J, ms."""
        return self.fullest + self.linear


class Neighbourhood:
    """States of mappings, and what relocations and swaps make of them.

    A search asks thousands of times, of arrays so small that the number of operations counts: what depends on the
    problem alone is kept, and what is nought in it is left out.

    Args:
        terms: of the problem.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._k, self._u = terms.load.shape
        self._rows = np.arange(self._k)
        self._flat = self._rows * self._u
        self._corner = self._flat[:-1] * self._u
        self._after = terms.pair.reshape(-1, self._u)
        self._before = terms.pair.transpose(0, 2, 1).reshape(-1, self._u)
        self._busy = bool(terms.load.any())
        self._links = bool(terms.wire.any())
        self._wire = float(terms.wire.max(initial=0.0))
        # A slot filled to the brim may exceed it by rounding.
        self._brim = terms.limit_mb * (1 + 1e-9)
        self._short = terms.weight_mb[:, None] - self._brim
        self._activation = terms.activation_mb[:, None]

    def state(self, at: NDArray[np.int64]) -> State:
        """Return the sums of one mapping."""
        t, u = self.terms, self._u
        weight = _sums(at, t.weight_mb, u)
        same = at[:, None] == at
        held = same * t.activation_mb
        largest = np.zeros(u)
        largest[at] = held.max(1)
        np.fill_diagonal(held, 0.0)
        here = self._flat + at
        a, b = at[:-1], at[1:]
        chain = self._corner + a * u + b
        busy = _sums(at, t.load.take(here), u) if self._busy else np.zeros(u)
        link = (_sums(a * u + b, t.wire.take(chain), u * u) if self._links else np.zeros(u * u)).reshape(u, u)
        through = t.own.copy()
        through[1:] += self._after.take(self._flat[:-1] + a, 0)
        through[:-1] += self._before.take(self._flat[:-1] + b, 0)
        return State(
            at=at,
            same=same,
            busy=busy,
            link=link,
            weight_mb=weight,
            largest_mb=largest,
            others_mb=held.max(1),
            excess_mb=np.maximum(weight + largest - self._brim, 0.0),
            through=through,
            linear=float(t.own.take(here).sum() + t.pair.take(chain).sum()),
            fullest=max(float(busy.max()), float(link.max()) if self._links else 0.0),
        )

    def relocations(self, s: State) -> tuple[Floats, Floats, Floats]:
        """Return what it costs to put segment k on column t: `[K, U]` J, its Σ busy⁴ and its excess.

        Links are exact. The row of a segment on its own column holds what it costs now.
        """
        t, at = self.terms, s.at
        here = self._flat + at
        cost = s.through - (s.through.take(here) - s.linear)[:, None]
        power = np.zeros(cost.shape)
        if self._busy:
            at_busy = s.busy.take(at)
            left = at_busy - t.load.take(here)
            joined = s.busy + t.load
            # A column that is joined is fuller than before, so that only the one that is left must be left out.
            first, second, _ = _three(s.busy)
            rest = np.where(at == first[0], second[1], first[1])
            top = np.maximum(joined, np.maximum(rest, left)[:, None])
            if self._links and s.link.max() + self._wire > top.min():
                top = np.maximum(top, self._link_tops(s))
            cost += top
            now = _fourth(s.busy)
            total = now.sum()
            power = _fourth(joined) - now
            power += (_fourth(left) - now.take(at) + total)[:, None]
            power[self._rows, at] = total
        excess = np.maximum(s.largest_mb, self._activation)
        excess += self._short
        excess += s.weight_mb
        np.maximum(excess, 0.0, out=excess)
        excess -= s.excess_mb
        held = s.excess_mb.sum()
        rest = s.weight_mb.take(at) - t.weight_mb + s.others_mb - self._brim.take(at)
        excess += (np.maximum(rest, 0.0) - s.excess_mb.take(at) + held)[:, None]
        cost[self._rows, at] = s.objective
        excess[self._rows, at] = held
        return cost, power, excess

    def swaps(self, s: State) -> tuple[Floats, Floats, Floats]:
        """Return what it costs to exchange the columns of j and k: `[K, K]` J, its Σ busy⁴ and its excess.

        J leaves out links. Two segments on one column cost what they do now.
        """
        t, at = self.terms, s.at
        here = self._flat + at
        cost = (s.through - s.through.take(here)[:, None]).take(at, 1)
        cost = np.ascontiguousarray(cost + cost.T)
        cost += s.linear
        flat, turned = cost.reshape(-1), self._turned(at)
        flat[1 :: self._k + 1] += turned
        flat[self._k :: self._k + 1] += turned
        power = np.zeros(cost.shape)
        if self._busy:
            at_busy = s.busy.take(at)
            mine = t.load.take(at, 1).T + (at_busy - t.load.take(here))[:, None]
            top = np.maximum(mine, mine.T)
            cost += np.maximum(top, self._rest(s).take(at[:, None] * self._u + at))
            fourth = _fourth(at_busy)
            gain = _fourth(mine) - fourth[:, None]
            total = _fourth(s.busy).sum()
            power = gain + gain.T
            power += total
            power[s.same] = total
        change = np.maximum(s.others_mb[:, None], t.activation_mb)
        change += (s.weight_mb.take(at) - t.weight_mb - self._brim.take(at))[:, None]
        change += t.weight_mb
        np.maximum(change, 0.0, out=change)
        change -= s.excess_mb.take(at)[:, None]
        held = s.excess_mb.sum()
        excess = change + change.T
        excess += held
        cost[s.same] = s.objective
        excess[s.same] = held
        return cost, power, excess

    def _turned(self, at: NDArray[np.int64]) -> Floats:
        """Return `[K - 1]`: what a swap of two neighbours costs beyond both moves: their transfer, turned round."""
        pair, u, base = self.terms.pair, self._u, self._corner
        a, b = at[:-1], at[1:]
        return np.asarray(pair.take(base + b * u + a) + pair.take(base + a * u + b))

    def _rest(self, s: State) -> Floats:
        """Return `[U, U]`: the largest load of all columns but two."""
        first, second, third = _three(s.busy)
        rest = np.full((self._u, self._u), first[1])
        rest[first[0], :] = rest[:, first[0]] = second[1]
        if second[0] >= 0:
            rest[first[0], second[0]] = rest[second[0], first[0]] = third[1]
        return rest

    def _link_tops(self, s: State) -> Floats:
        """Return `[K, U]`: the fullest link, were segment k on column t."""
        t, at, rows = self.terms, s.at, self._rows[:-1]
        a, b = at[:-1], at[1:]
        now = t.wire[rows, a, b]
        links = np.repeat(s.link[None], self._k, axis=0)
        links[rows, a, b] -= now
        links[rows + 1, a, b] -= now
        top = np.repeat(links.reshape(self._k, -1).max(1)[:, None], self._u, axis=1)
        top[1:] = np.maximum(top[1:], links[rows + 1, a, :] + t.wire[rows, a, :])
        top[:-1] = np.maximum(top[:-1], links[rows, :, b] + t.wire[rows, :, b])
        return top


def _three(busy: Floats) -> list[tuple[int, float]]:
    """Return the three fullest columns and their loads, the fullest first; columns that are none are -1."""
    loads = busy.tolist()
    order = sorted(range(len(loads)), key=loads.__getitem__, reverse=True)[:3]
    return [(j, loads[j]) for j in order] + [(-1, 0.0)] * (3 - len(order))


def _sums(place: NDArray[np.int64], values: Floats, count: int) -> Floats:
    # numpy gives integers where there is nothing to add.
    return np.asarray(np.bincount(place, values, count), dtype=np.float64)


def _fourth(x: Floats) -> Floats:
    square = x * x
    return square * square
