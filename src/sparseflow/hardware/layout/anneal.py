"""Simulated annealing of legal layouts, many chains at once."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sparseflow.hardware.layout.heat_table import HeatTable
from sparseflow.hardware.layout.problem import LayoutProblem

__all__ = ["AnnealConfig", "anneal"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ALIGNMENTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnealConfig:
    """How long and how hot to anneal.

    Args:
        steps: moves that each chain tries; ignored where `seconds` is given.
        seconds: wall time instead of steps; the result then depends on the machine.
        start_heat: temperature at the start, in the cost's own unit.
        end_heat: temperature at the end.
        jump_mm: standard deviation of a shift at the start; it falls with the temperature's root.
    """

    steps: int = 2000
    seconds: float | None = None
    start_heat: float = 0.05
    end_heat: float = 1e-5
    jump_mm: float = 40.0


def anneal(
    problem: LayoutProblem, start_mm: Array, config: AnnealConfig, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Anneal chains from legal layouts and return the best that each saw.

    A move shifts a die, swaps two, or sets one against a side of another; it
    must keep the layout legal and is taken with probability min(1, exp(−Δ/T)).
    The cost is `LayoutProblem.cost` with temperatures from `HeatTable`.

    Args:
        problem: the dies; all have area.
        start_mm: `[R, S, 2]`, legal.
        config: the schedule.
        rng: source of all moves.

    Returns:
        `[R, S, 2]` and the costs `[R]`.
    """
    chains = _Chains(problem, start_mm, rng)
    if len(problem.widths_mm) < 2:
        return chains.pos, chains.cost
    for progress in _progress(config):
        share = (config.end_heat / config.start_heat) ** progress
        chains.step(config.start_heat * share, max(config.jump_mm * share**0.5, 0.05))
    return chains.best, chains.best_cost


def _progress(config: AnnealConfig) -> Iterator[float]:
    if config.seconds is None:
        yield from (i / max(1, config.steps - 1) for i in range(config.steps))
        return
    began = time.perf_counter()
    while (passed := (time.perf_counter() - began) / config.seconds) < 1:
        yield passed


class _Chains:
    def __init__(self, problem: LayoutProblem, start_mm: Array, rng: np.random.Generator) -> None:
        self.problem, self.rng = problem, rng
        self.pos = start_mm.copy()
        self.rows = np.arange(len(start_mm))
        self.sizes = np.stack([problem.widths_mm, problem.heights_mm], -1)
        self.reach = (self.sizes[:, None] + self.sizes) / 2 + problem.gap_mm
        scale = problem.scale_byte_mm
        self.pull = (problem.traffic_bytes + problem.traffic_bytes.T) / scale
        self.anchors = self._anchors()
        self.heat = HeatTable(problem) if problem.may_be_hot else None
        self.comm = problem.comm_byte_mm(start_mm) / scale
        self.rise = self._rise()
        self.cost = self.comm + self._penalty(self.rise)
        self.best, self.best_cost = self.pos.copy(), self.cost.copy()

    def _rise(self) -> Array:
        if self.heat is None:
            return np.zeros(self.pos.shape[:2])
        return np.asarray(self.heat.rise_k(torch.from_numpy(self.pos)))

    def _anchors(self) -> Array:
        # Half of the anchors are drawn by traffic, half evenly, so that dies without traffic find a side too.
        dies = len(self.sizes)
        even = (1 - np.eye(dies)) / (dies - 1) if dies > 1 else np.ones((1, 1))
        total = self.pull.sum(1, keepdims=True)
        by_traffic = np.where(total > 0, self.pull / np.where(total > 0, total, 1), even)
        np.fill_diagonal(by_traffic, 0)
        return np.cumsum((even + by_traffic) / 2, 1)

    def step(self, heat: float, jump_mm: float) -> None:
        rng, rows, dies = self.rng, self.rows, len(self.sizes)
        first = rng.integers(dies, size=len(rows))
        second = (self.anchors[first] < rng.random((len(rows), 1))).sum(1).clip(max=dies - 1)
        kind = rng.random(len(rows))
        swap = (kind < 0.25) & (second != first)
        here, there = self.pos[rows, first], self.pos[rows, second]
        moved = np.where(swap[:, None], there, here)
        shift = (kind >= 0.25) & (kind < 0.55)
        moved = np.where(shift[:, None], here + jump_mm * rng.standard_normal(here.shape), moved)
        against = kind >= 0.55
        moved = np.where(against[:, None], self._against(first, second, here, there), moved)
        new = self.pos.copy()
        new[rows, first] = moved
        new[rows, second] = np.where(swap[:, None], here, new[rows, second])
        delta = self._pull_of(new, first, second) - self._pull_of(self.pos, first, second)
        legal = self._fits(new, first) & self._fits(new, second)
        rise = self.rise
        if self.heat:
            rise = self.heat.moved(*(torch.from_numpy(x) for x in (self.rise, self.pos, new, first, second))).numpy()
        cost = self.cost + delta + self._penalty(rise) - self._penalty(self.rise)
        luck = -np.log(rng.random(len(rows))) * heat
        taken = legal & (cost - self.cost <= luck)
        self.pos[taken], self.cost[taken] = new[taken], cost[taken]
        if self.heat:
            self.rise[taken] = rise[taken]
        better = self.cost < self.best_cost
        self.best[better], self.best_cost[better] = self.pos[better], self.cost[better]

    def _against(self, first: Ints, second: Ints, here: Array, there: Array) -> Array:
        rng, rows = self.rng, self.rows
        axis = rng.integers(2, size=len(rows))
        sign = rng.choice(np.array([-1.0, 1.0]), size=len(rows))
        reach = self.reach[first, second, axis] + 1e-7
        other = 1 - axis
        slack = (self.sizes[second, other] - self.sizes[first, other]) / 2
        # Along the side: own place, low edges flush, middles flush, high edges flush.
        align = rng.integers(_ALIGNMENTS, size=len(rows))
        along = np.where(align == 0, here[rows, other], there[rows, other] + (align - 2) * slack)
        moved = np.empty_like(here)
        moved[rows, axis] = there[rows, axis] + sign * reach
        moved[rows, other] = along
        return moved

    def _fits(self, pos: Array, die: Ints) -> npt.NDArray[np.bool_]:
        mine = pos[self.rows, die]
        far = np.abs(mine) + self.sizes[die] / 2
        near = np.asarray((np.abs(pos - mine[:, None]) < self.reach[die]).all(-1))
        near[self.rows, die] = False
        inside = (far**2).sum(-1) <= self.problem.radius_mm**2
        return np.asarray(inside & ~near.any(-1), dtype=np.bool_)

    def _pull_of(self, pos: Array, first: Ints, second: Ints) -> Array:
        total = np.zeros(len(self.rows))
        ends = []
        for die in (first, second):
            gap = pos - pos[self.rows, die][:, None]
            ends.append(np.sqrt((gap**2).sum(-1)))
            total += (ends[-1] * self.pull[die]).sum(-1)
        return total - np.where(first == second, total / 2, ends[0][self.rows, second] * self.pull[first, second])

    def _penalty(self, rise: Array) -> Array:
        over = np.maximum(rise.max(-1) + self.problem.plate.ambient_c - self.problem.t_limit_c, 0)
        return np.asarray(self.problem.heat_weight * over**2)
