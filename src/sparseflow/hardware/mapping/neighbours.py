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
        busy: `[U]` ms.
        link: `[U, U]` ms.
        weight_mb: `[U]`.
        largest_mb: `[U]` activations.
        others_mb: `[K]` largest activations on a segment's slot without its own.
        excess_mb: `[U]` memory beyond the limit.
        linear: Σ own + Σ pair, ms.
    """

    at: NDArray[np.int64]
    busy: Floats
    link: Floats
    weight_mb: Floats
    largest_mb: Floats
    others_mb: Floats
    excess_mb: Floats
    linear: float

    @property
    def fullest(self) -> float:
        """Largest load of a slot or a link."""
        return max(float(self.busy.max()), float(self.link.max()))

    @property
    def objective(self) -> float:
        """J, ms."""
        return self.fullest + self.linear


class Neighbourhood:
    """States of mappings, and what relocations and swaps make of them.

    Args:
        terms: of the problem.
    """

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self._k, self._u = terms.load.shape
        self._rows = np.arange(self._k)
        self._cols = np.arange(self._u)
        self._links = bool(terms.wire.any())
        self._wire = float(terms.wire.max(initial=0.0))

    def state(self, at: NDArray[np.int64]) -> State:
        """Return the sums of one mapping."""
        t, u = self.terms, self._u
        weight = np.bincount(at, weights=t.weight_mb, minlength=u).astype(np.float64)
        same = at[:, None] == at
        held = np.where(same, t.activation_mb, 0.0)
        largest = np.zeros(u)
        largest[at] = held.max(1)
        np.fill_diagonal(held, 0.0)
        link = np.zeros((u, u))
        a, b, rows = at[:-1], at[1:], self._rows[:-1]
        if self._links:
            np.add.at(link, (a, b), t.wire[rows, a, b])
        return State(
            at=at,
            busy=np.bincount(at, weights=t.load[self._rows, at], minlength=u).astype(np.float64),
            link=link,
            weight_mb=weight,
            largest_mb=largest,
            others_mb=held.max(1),
            excess_mb=_over(weight + largest, t.limit_mb),
            linear=float(t.own[self._rows, at].sum() + t.pair[rows, a, b].sum()),
        )

    def relocations(self, s: State) -> tuple[Floats, Floats, Floats]:
        """Return what it costs to put segment k on column t: `[K, U]` J, its Σ busy⁴ and its excess.

        Links are exact. The row of a segment on its own column holds what it costs now.
        """
        t, at = self.terms, s.at
        left = s.busy[at] - t.load[self._rows, at]
        joined = s.busy + t.load
        moved = at[:, None] != self._cols
        top = np.maximum(np.maximum(self._rest(s)[at], left[:, None]), joined)
        near = self._near(at)
        linear = s.linear + (t.own - t.own[self._rows, at][:, None]) + (near - near[self._rows, at][:, None])
        if self._links and s.link.max() + self._wire > top.min():
            top = np.maximum(top, self._link_tops(s))
        now = _fourth(s.busy)
        power = now.sum() + _fourth(joined) - now + (_fourth(left) - now[at])[:, None]
        need = s.weight_mb + t.weight_mb[:, None] + np.maximum(s.largest_mb, t.activation_mb[:, None])
        rest = s.weight_mb[at] - t.weight_mb + s.others_mb
        change = _over(need, t.limit_mb) - s.excess_mb + (_over(rest, t.limit_mb[at]) - s.excess_mb[at])[:, None]
        excess = s.excess_mb.sum() + change
        return (
            np.where(moved, top + linear, s.objective),
            np.where(moved, power, now.sum()),
            np.where(moved, excess, s.excess_mb.sum()),
        )

    def swaps(self, s: State) -> tuple[Floats, Floats, Floats]:
        """Return what it costs to exchange the columns of j and k: `[K, K]` J, its Σ busy⁴ and its excess.

        J leaves out links. Two segments on one column cost what they do now.
        """
        t, at = self.terms, s.at
        differ = at[:, None] != at
        there = t.load[:, at].T
        mine = s.busy[at][:, None] - t.load[self._rows, at][:, None] + there
        top = np.maximum(np.maximum(self._rest(s)[at][:, at], mine), mine.T)
        own = t.own[:, at].T - t.own[self._rows, at]
        linear = s.linear + own + own.T + self._swapped_pairs(at)
        gain = _fourth(mine) - _fourth(s.busy[at])[:, None]
        power = _fourth(s.busy).sum() + gain + gain.T
        largest = np.maximum(s.others_mb[:, None], t.activation_mb)
        need = (s.weight_mb[at] - t.weight_mb)[:, None] + t.weight_mb + largest
        change = _over(need, t.limit_mb[at][:, None]) - s.excess_mb[at][:, None]
        excess = s.excess_mb.sum() + change + change.T
        return (
            np.where(differ, top + linear, s.objective),
            np.where(differ, power, _fourth(s.busy).sum()),
            np.where(differ, excess, s.excess_mb.sum()),
        )

    def _rest(self, s: State) -> Floats:
        """Return `[U, U]`: the largest load of all columns but two."""
        order = np.argsort(s.busy)[::-1][:3]
        top = np.zeros(3)
        top[: len(order)] = s.busy[order]
        first, second = order[0], order[1] if len(order) > 1 else -1
        has_first = (self._cols == first)[:, None] | (self._cols == first)
        has_second = (self._cols == second)[:, None] | (self._cols == second)
        return np.asarray(np.where(~has_first, top[0], np.where(~has_second, top[1], top[2])))

    def _near(self, at: NDArray[np.int64]) -> Floats:
        """Return `[K, U]`: transfers to and from segment k, were it on column t."""
        near = np.zeros((self._k, self._u))
        rows = self._rows[:-1]
        near[1:] += self.terms.pair[rows, at[:-1], :]
        near[:-1] += self.terms.pair[rows, :, at[1:]]
        return near

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

    def _swapped_pairs(self, at: NDArray[np.int64]) -> Floats:
        near = self._near(at)
        change = near - near[self._rows, at][:, None]
        both = change[:, at] + change[:, at].T
        # Of two neighbours the transfer between them counts once, and turned round.
        pair, rows = self.terms.pair, self._rows[:-1]
        a, b = at[:-1], at[1:]
        wrong = pair[rows, b, b] - pair[rows, a, b] + pair[rows, a, a] - pair[rows, a, b]
        fix = pair[rows, b, a] - pair[rows, a, b] - wrong
        both[rows, rows + 1] += fix
        both[rows + 1, rows] += fix
        return both


def _over(need: Floats, limit: Floats) -> Floats:
    # A slot filled to the brim may exceed it by rounding.
    return np.where(need > limit * (1 + 1e-9), need - limit, 0.0)


def _fourth(x: Floats) -> Floats:
    square = x * x
    return square * square
