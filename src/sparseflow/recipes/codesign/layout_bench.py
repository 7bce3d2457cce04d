"""Layouts held against a grid in rows, simulated annealing in equal time, and a finite-difference solve of the heat."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sparseflow.hardware.layout import DescendConfig, LayoutProblem, LayoutResult, WaferLayout
from sparseflow.hardware.layout.anneal import AnnealConfig, anneal
from sparseflow.hardware.layout.finite_difference import PlateGrid
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.codesign.layout_instances import random_dies

__all__ = ["bench"]

_SHOW = "4"
_RUNS, _QUICK_RUNS = 100, 5
_DIES, _QUICK_DIES = 60, 30
_CELL_MM = 1.0
_CHAINS, _RIVAL_HEAT = 16, 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """One problem: what its layout is, and what the grid and the rival came to."""

    dies: int
    seconds: float
    found: LayoutResult
    grid: LayoutResult
    rival_cost: float
    heat_error: float


def bench(*, quick: bool = False, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Place random dies, and return the checks with what every run came to.

    Of each of 100 problems (half of them pipelines in the dies' own order,
    which rows suit best): overlap and corners, communication over that of the
    grid, cost over that of 16 chains of annealing that have the same wall
    time, rise of the hottest point against finite differences on cells of a
    millimetre. Then 60 dies once.

    Args:
        quick: five problems and 30 dies.
        say: told how far it is.
    """
    solver: PlateGrid | None = None
    runs = []
    for seed in range(_QUICK_RUNS if quick else _RUNS):
        layout = WaferLayout(slots=len(random_dies(seed).widths_mm))
        solver = solver or PlateGrid(layout.plate, cell_mm=_CELL_MM)
        runs.append(_run(layout, random_dies(seed, in_order=seed % 2 == 1), solver, seed))
        say(f"layout {seed}: {runs[-1].dies} dies, {runs[-1].found.comm_byte_mm / runs[-1].grid.comm_byte_mm:.2f}x")
    many = random_dies(1000, dies=_QUICK_DIES if quick else _DIES, largest_mm2=400.0)
    began = time.perf_counter()
    large = _optimise(WaferLayout(slots=len(many.widths_mm)), many, seed=0)
    large_s = time.perf_counter() - began
    assert solver is not None
    by_order = [np.array([1 - r.found.comm_byte_mm / r.grid.comm_byte_mm for r in runs[k::2]]) for k in (0, 1)]
    over_rival = np.array([r.found.cost / r.rival_cost for r in runs])
    checks: list[tuple[str, Any, str, str, float]] = [
        ("runs without overlap", np.mean([r.found.overlap_mm2 == 0 for r in runs]), "share", "==", 1.0),
        ("runs with all corners inside", np.mean([r.found.outside == 0 for r in runs]), "share", "==", 1.0),
        ("communication below row-major, mean", np.concatenate(by_order).mean(), "share", ">=", 0.15),
        ("communication below row-major, pipelines in order of rows", by_order[1].mean(), "share", ">=", 0.15),
        ("communication below row-major, worst run", min(map(np.min, by_order)), "share", ">=", 0.15),
        ("cost over annealing in equal time, mean", over_rival.mean(), "x", "<=", 1.0),
        ("rise of the hottest point against finite differences, worst", max(r.heat_error for r in runs), "share",
         "<=", 0.05),
        (f"{len(many.widths_mm)} dies", large_s, "s", "<=", 60.0),
        (f"{len(many.widths_mm)} dies, legal", float(large.legal), "share", "==", 1.0),
    ]  # fmt: skip
    return checks_body(
        [Check(show=_SHOW, name=n, value=float(v), unit=u, rule=r, bound=b) for n, v, u, r, b in checks],
        runs=[_row(run) for run in runs],
        better_than_annealing=float((over_rival <= 1).mean()),
    )


def _run(layout: WaferLayout, problem: LayoutProblem, solver: PlateGrid, seed: int) -> _Run:
    fixed = WaferLayout(slots=len(problem.widths_mm), optimize_layout=False)
    grid = fixed.optimize(*_operands(problem))
    began = time.perf_counter()
    found = _optimise(layout, problem, seed=seed)
    seconds = time.perf_counter() - began
    return _Run(
        dies=len(problem.widths_mm),
        seconds=seconds,
        found=found,
        grid=grid,
        rival_cost=_annealed_cost(problem, grid.pos_mm, seconds, seed),
        heat_error=max(_heat_error(problem, solver, r) for r in (found, grid)),
    )


def _annealed_cost(problem: LayoutProblem, start_mm: npt.NDArray[np.float64], seconds: float, seed: int) -> float:
    chains = np.repeat(start_mm[None], _CHAINS, 0)
    schedule = AnnealConfig(seconds=seconds, start_heat=_RIVAL_HEAT)
    rng = np.random.default_rng(seed)
    # As our own search does, heat is left out first; where that ends too hot, the rival gets its time once more.
    rival = anneal(replace(problem, t_limit_c=math.inf), chains, schedule, rng)[0]
    best = min(map(problem.cost, rival))
    if problem.may_be_hot and min(map(problem.t_max_c, rival)) > problem.t_limit_c:
        best = min(best, *map(problem.cost, anneal(problem, chains, schedule, rng)[0]))
    return best


def _optimise(layout: WaferLayout, problem: LayoutProblem, *, seed: int) -> LayoutResult:
    return layout.optimize(*_operands(problem), config=DescendConfig(seed=seed))


def _operands(problem: LayoutProblem) -> list[Any]:
    return [problem.tensor(key) for key in ("widths_mm", "heights_mm", "traffic_bytes", "power_w")]


def _heat_error(problem: LayoutProblem, solver: PlateGrid, result: LayoutResult) -> float:
    widths, heights = list(problem.widths_mm), list(problem.heights_mm)
    rise: npt.NDArray[np.float64] = solver.rise_k(result.pos_mm, widths, heights, problem.power_w)
    solved = float(np.nanmax(rise))
    return abs(result.t_max_c - problem.plate.ambient_c - solved) / solved


def _row(run: _Run) -> dict[str, float]:
    return {
        "dies": run.dies,
        "seconds": run.seconds,
        "comm_over_grid": run.found.comm_byte_mm / run.grid.comm_byte_mm,
        "cost": run.found.cost,
        "cost_grid": run.grid.cost,
        "cost_annealing": run.rival_cost,
        "t_max_c": run.found.t_max_c,
        "heat_error": run.heat_error,
    }
