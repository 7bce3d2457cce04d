"""The reference of all mappings: CP-SAT of OR-Tools, with a certified bound."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparseflow.errors import BudgetError, UnsupportedError
from sparseflow.hardware.mapping.objective import MappingProblem, evaluate
from sparseflow.hardware.mapping.solution import NO_MAPPING, Solution
from sparseflow.hardware.mapping.terms import Terms
from sparseflow.hardware.mapping.viterbi import cheapest_through

__all__ = ["solve_cp_sat"]

_TICKS = 10_000_000
_MEMORY_TICKS = 1 << 24


def solve_cp_sat(
    problem: MappingProblem,
    *,
    limit_s: float = 10.0,
    workers: int = 1,
    seed: int = 0,
    hint: NDArray[np.integer] | None = None,
    transfers: bool = True,
) -> Solution:
    """Return the best mapping that CP-SAT finds, and a bound below which no mapping is.

    Variables are x[k, s], segment k on slot s, and for transfers that cost something y[k, s, t] with
    Σ_t y[k, s, t] = x[k, s] and Σ_s y[k, s, t] = x[k+1, t]. Times are rounded down to 1e-7 of the cost of `hint`
    (or of all segments on their worst slots), memory down to 2⁻²⁴ of each limit, so that the bound of the rounded
    problem is one of the problem.

    Args:
        problem: segments and slots.
        limit_s: wall-clock limit.
        workers: threads; with more than one, runs differ.
        seed: of its random choices.
        hint: a mapping to begin from, which is returned where nothing better is found.
        transfers: False leaves the y and all that transfers cost out, which only lowers the bound, little where
            transfers cost little, and is proved far sooner; `optimal` is then whether the bound meets the whole cost.

    Raises:
        UnsupportedError: OR-Tools is not installed.
        BudgetError: no mapping was found in time, or none exists; the message says which.
    """
    try:
        from ortools.sat.python import cp_model
    except ImportError as e:
        raise UnsupportedError("strategy 'cp_sat' needs OR-Tools: pip install sparseflow[codesign]") from e
    t = Terms.of(problem)
    k, s = t.load.shape
    model = cp_model.CpModel()
    known = None if hint is None else evaluate(problem, hint)
    reach = np.inf if known is None or known.violations else known.objective
    scale = _TICKS / max(known.objective if known else _reach(t), 1e-300)
    alone, both = cheapest_through(t.own, t.pair)
    # What cannot be part of a mapping as good as the hint is left out; the hint's J then bounds all that has it.
    fits, worth = t.fits() & (t.load + alone <= reach * (1 + 1e-9)), both <= reach * (1 + 1e-9)
    x = [[model.new_bool_var(f"x{i}_{j}") if fits[i, j] else None for j in range(s)] for i in range(k)]
    for i in range(k):
        model.add_exactly_one(v for v in x[i] if v is not None)
    _add_memory(model, t, x)
    y = _add_pairs(model, t, x, worth) if transfers else {}
    places = [(i, j, v) for i, row in enumerate(x) for j, v in enumerate(row) if v is not None]
    cost: list[Any] = [int(t.own[i, j] * scale) * v for i, j, v in places]
    cost += [int(t.pair[i, a, b] * scale) * v for (i, a, b), v in y.items() if t.pair[i, a, b] > 0]
    if t.load.any():
        period = model.new_int_var(0, (k + 1) * _TICKS * 2, "period")
        for j in range(s):
            model.add(sum(int(t.load[i, j] * scale) * v for i in range(k) if (v := x[i][j]) is not None) <= period)
        for a, b in {(a, b) for _, a, b in y if a != b}:
            model.add(sum(int(t.wire[i, a, b] * scale) * y[i, a, b] for i in range(k - 1) if (i, a, b) in y) <= period)
        cost.append(period)
    model.minimize(sum(cost))
    if hint is not None:
        _add_hint(model, t, x, y, np.asarray(hint))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = limit_s
    solver.parameters.num_workers = workers
    solver.parameters.random_seed = seed
    status: Any = solver.solve(model)
    if status == cp_model.INFEASIBLE:
        raise BudgetError(NO_MAPPING)
    solved = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    mapping = t.slots[[j for _, j, v in places if solver.value(v)]] if solved else None
    found = None if mapping is None else evaluate(problem, mapping)
    if hint is not None and known is not None and (found is None or reach < found.objective):
        mapping, found = np.asarray(hint, dtype=np.int64), known
    if mapping is None or found is None:
        raise BudgetError(f"CP-SAT found no mapping in {limit_s} s; give it longer, or a hint from strategy 'search'")
    bound = min(solver.best_objective_bound / scale, found.objective)
    proved = status == cp_model.OPTIMAL and (transfers or bound >= found.objective)
    return Solution(mapping=mapping, cost=found, bound=bound, optimal=proved and not found.violations)


def _reach(t: Terms) -> float:
    return float((t.load + t.own).max(1).sum() + t.pair.max(initial=0.0, axis=(1, 2)).sum())


def _add_memory(model: Any, t: Terms, x: list[list[Any]]) -> None:
    for j, limit in enumerate(t.limit_mb):
        here = [i for i in range(len(x)) if x[i][j] is not None]
        if not np.isfinite(limit) or t.weight_mb[here].sum() + t.activation_mb[here].max(initial=0.0) <= limit:
            continue
        unit = _MEMORY_TICKS / max(float(limit), 1e-300)
        weights = sum(int(t.weight_mb[i] * unit) * x[i][j] for i in here)
        # The largest activations are each one's in turn; one that a heavier segment outdoes need not be asked.
        for i in here:
            if t.activation_mb[i] > 0 or i == here[0]:
                model.add(weights + int(t.activation_mb[i] * unit) * x[i][j] <= _MEMORY_TICKS)


def _add_pairs(model: Any, t: Terms, x: list[list[Any]], worth: NDArray[np.bool_]) -> dict[tuple[int, int, int], Any]:
    y: dict[tuple[int, int, int], Any] = {}
    k, s = t.load.shape
    for i in range(k - 1):
        if not (t.pair[i].any() or t.wire[i].any()):
            continue
        ends = [[j for j in range(s) if x[row][j] is not None] for row in (i, i + 1)]
        for a in ends[0]:
            for b in ends[1]:
                if worth[i, a, b]:
                    y[i, a, b] = model.new_bool_var(f"y{i}_{a}_{b}")
        for a in ends[0]:
            model.add(sum(y[i, a, b] for b in ends[1] if worth[i, a, b]) == x[i][a])
        for b in ends[1]:
            model.add(sum(y[i, a, b] for a in ends[0] if worth[i, a, b]) == x[i + 1][b])
    return y


def _add_hint(
    model: Any, t: Terms, x: list[list[Any]], y: dict[tuple[int, int, int], Any], hint: NDArray[np.integer]
) -> None:
    place = {int(slot): j for j, slot in enumerate(t.slots)}
    at = [place[int(slot)] for slot in hint]
    for i, row in enumerate(x):
        for j, v in enumerate(row):
            if v is not None:
                model.add_hint(v, int(at[i] == j))
    for (i, a, b), v in y.items():
        model.add_hint(v, int(at[i] == a and at[i + 1] == b))
