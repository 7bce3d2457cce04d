"""The oracle of small problems: every mapping, one after the other."""

import itertools

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping.objective import MappingProblem, evaluate, evaluate_many
from sparseflow.hardware.mapping.solution import NO_MAPPING, Solution

__all__ = ["solve_brute"]

_MOST = 1 << 18
_CHUNK = 1 << 13


def solve_brute(problem: MappingProblem, *, contiguous: bool = False) -> Solution:
    """Return the best of all mappings without violations.

    Args:
        problem: at most 2¹⁸ mappings of segments to usable slots, as K = 8 on S = 4.
        contiguous: only mappings in which the segments of every slot are neighbours.

    Raises:
        UnsupportedError: more mappings than that.
        BudgetError: every mapping has violations.
    """
    slots, k = np.flatnonzero(problem.usable), problem.segments
    if len(slots) ** k > _MOST:
        raise UnsupportedError(f"{len(slots)}^{k} mappings are too many to try; strategy 'cp_sat' gives a bound")
    best, best_j = None, np.inf
    every = itertools.product(slots, repeat=k)
    while chunk := list(itertools.islice(every, _CHUNK)):
        many = np.array(chunk)
        if contiguous:
            many = many[_contiguous(many)]
        if not len(many):
            continue
        cost = evaluate_many(problem, many)
        j = np.where(cost.violations > 0, np.inf, cost.objective)
        at = int(j.argmin())
        if j[at] < best_j:
            best, best_j = many[at], float(j[at])
    if best is None:
        raise BudgetError(NO_MAPPING)
    return Solution(mapping=best, cost=evaluate(problem, best), bound=best_j, optimal=True)


def _contiguous(many: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which mappings never come back to a slot that they left."""
    # Runs are as many as slots in use.
    runs = 1 + (many[:, 1:] != many[:, :-1]).sum(1)
    ordered = np.sort(many, axis=1)
    return np.asarray(runs == 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(1))
