"""One door to all solvers of mappings."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sparseflow.errors import ConfigError
from sparseflow.hardware.mapping.brute import solve_brute
from sparseflow.hardware.mapping.contiguous import solve_dp
from sparseflow.hardware.mapping.cp_sat import solve_cp_sat
from sparseflow.hardware.mapping.fine_split import split_where_it_pays
from sparseflow.hardware.mapping.greedy import solve_greedy_local
from sparseflow.hardware.mapping.objective import MappingProblem
from sparseflow.hardware.mapping.search import solve_search
from sparseflow.hardware.mapping.segment import Segment
from sparseflow.hardware.mapping.solution import Solution
from sparseflow.hardware.mapping.viterbi import solve_viterbi

__all__ = ["STRATEGIES", "MappingSolver"]

STRATEGIES: Mapping[str, Callable[..., Solution]] = {
    "greedy_local": solve_greedy_local,
    "search": solve_search,
    "viterbi": solve_viterbi,
    "dp": solve_dp,
    "cp_sat": solve_cp_sat,
    "brute": solve_brute,
}


class MappingSolver:
    """Maps segments to slots by one strategy.

    * "search": local search with restarts; any problem, near the optimum, within .2 s at K = 24, S = 16.
    * "greedy_local": the seed's single relocations.
    * "viterbi": exact for serial pipelines whose memory limits do not bind.
    * "dp": exact among mappings in which each slot holds neighbours.
    * "cp_sat": OR-Tools, any problem, with a certified bound.
    * "brute": every mapping of a small problem.

    Args:
        strategy: one of these.
        options: of the strategy's function, as `limit_s` of "cp_sat" or `seed` of "search".

    Raises:
        ConfigError: unknown strategy.

    >>> import numpy as np
    >>> problem = MappingProblem(lat_ms=np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]))
    >>> found = MappingSolver("brute").solve_mapping(problem)
    >>> found["mapping"].count(1), found["total_latency_ms"], found["optimal"]
    (1, 4.0, True)
    """

    def __init__(self, strategy: str = "search", **options: Any) -> None:
        if strategy not in STRATEGIES:
            raise ConfigError(f"strategy is {strategy!r}; expected one of {', '.join(STRATEGIES)}")
        self.strategy = strategy
        self.options = options

    def solve(self, problem: MappingProblem, *, seed: int = 0, **options: Any) -> Solution:
        """Return the mapping that the strategy finds; `options` go before those of the solver.

        Only "search" and "cp_sat" read `seed`; the others choose nothing at random.

        Raises:
            BudgetError: no mapping without violations was found or exists.
            UnsupportedError: the strategy does not handle this problem; says why.
        """
        random = {"seed": seed} if self.strategy in ("search", "cp_sat") else {}
        return STRATEGIES[self.strategy](problem, **{**random, **self.options, **options})

    def solve_mapping(
        self, problem: MappingProblem, segments: Sequence[Segment] = (), *, fine_splits: int = 0, **options: Any
    ) -> dict[str, Any]:
        """Return `solve` as plain data: mapping, per_slot_time (ms), total_latency_ms, comm_ms, segments, rewire_meta.

        Besides these: period_ms, energy_mj, objective, violations (0), bound (None where none is known) and optimal.

        Args:
            problem: segments and slots.
            segments: of the problem; returned, with those that were split in groups.
            fine_splits: most segments to split where that pays, see `try_fine_split_segment`. Then `mapping` is one of
                the segments returned, `rewire_meta` says what each split did, and bound and optimal are of the
                problem that was solved last.
            options: of `solve`.

        Raises:
            ConfigError: splits without segments.
            BudgetError, UnsupportedError: see `solve`.
        """
        if fine_splits and not segments:
            raise ConfigError("fine_splits needs the segments of the problem")
        found = self.solve(problem, **options)
        metas: list[dict[str, Any]] = []
        if fine_splits:
            problem, segments, found, metas = split_where_it_pays(problem, found, segments, most=fine_splits)
        cost = found.cost
        return {
            "mapping": [int(s) for s in found.mapping],
            "per_slot_time": cost.per_slot_ms.tolist(),
            "total_latency_ms": cost.total_latency_ms,
            "comm_ms": cost.comm_ms,
            "segments": list(segments),
            "rewire_meta": metas,
            "period_ms": cost.period_ms,
            "energy_mj": cost.energy_mj,
            "objective": cost.objective,
            "violations": cost.violations,
            "bound": found.bound if found.bound > float("-inf") else None,
            "optimal": found.optimal,
        }
