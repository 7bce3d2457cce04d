"""The exact mapping of a serial pipeline without memory limits."""

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping.objective import Floats, MappingProblem, evaluate
from sparseflow.hardware.mapping.solution import Solution
from sparseflow.hardware.mapping.terms import Terms

__all__ = ["cheapest_path", "cheapest_through", "solve_viterbi"]


def solve_viterbi(problem: MappingProblem) -> Solution:
    """Return the mapping of least J of a serial pipeline, by dynamic programming over (segment, slot).

    V[k, t] = own[k, t] + min_s (V[k-1, s] + pair[k-1, s, t]), in O(K·S²).

    Returns:
        The optimum, where it keeps the memory limits. Its cost bounds J from below also where it does not.

    Raises:
        UnsupportedError: the pipeline is balanced, or the optimum breaks a memory limit; says so.
    """
    if problem.mode != "serial":
        raise UnsupportedError("'viterbi' maps serial pipelines; 'dp', 'search' and 'cp_sat' map balanced ones")
    t = Terms.of(problem)
    value, at = cheapest_path(np.where(t.fits(), t.own, np.inf), t.pair)
    if not np.isfinite(value):
        raise BudgetError("a segment fits into no slot; give larger memory limits or smaller segments")
    mapping = t.slots[at]
    cost = evaluate(problem, mapping)
    if cost.violations:
        raise UnsupportedError("memory limits bind, which 'viterbi' does not handle; use 'search' or 'cp_sat'")
    return Solution(mapping=mapping, cost=cost, bound=cost.objective, optimal=True)


def cheapest_path(own: Floats, pair: Floats) -> tuple[float, NDArray[np.int64]]:
    """Return the least Σ own[k, m_k] + Σ pair[k, m_k, m_k+1] and its m `[K]`; inf where there is none."""
    k = len(own)
    value = own[0]
    came = np.zeros(own.shape, dtype=np.int64)
    for i in range(1, k):
        through = value[:, None] + pair[i - 1]
        came[i] = through.argmin(0)
        value = through[came[i], np.arange(own.shape[1])] + own[i]
    at = np.empty(k, dtype=np.int64)
    at[-1] = value.argmin()
    for i in range(k - 1, 0, -1):
        at[i - 1] = came[i, at[i]]
    return float(value[at[-1]]), at


def cheapest_through(own: Floats, pair: Floats) -> tuple[Floats, Floats]:
    """Return what a path costs at least with k on s, `[K, S]`, and with k on s and k+1 on t, `[K - 1, S, S]`."""
    before, after = own.copy(), own.copy()
    for i in range(1, len(own)):
        before[i] += (before[i - 1][:, None] + pair[i - 1]).min(0)
    for i in range(len(own) - 2, -1, -1):
        after[i] += (pair[i] + after[i + 1]).min(1)
    return before + after - own, before[:-1, :, None] + pair + after[1:, None, :]
