"""Layouts by gradient descent from many starts, made legal, then polished by moves."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.hardware.layout.anneal import AnnealConfig, anneal
from sparseflow.hardware.layout.heat_table import HeatTable
from sparseflow.hardware.layout.legal import legalise_mm
from sparseflow.hardware.layout.problem import LayoutProblem
from sparseflow.hardware.layout.rectangles import comm_byte_mm, outside_mm2, overlap_mm2
from sparseflow.hardware.layout.spectral import spectral_mm

__all__ = ["DescendConfig", "descend"]

Array = npt.NDArray[np.float64]

_POLISHED = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class DescendConfig:
    """How much to search.

    Args:
        steps: steps of descent.
        restarts: descents at once; the first starts where the dies are, the
            others where `spectral_mm` draws them.
        polish_steps: moves tried on each legal layout.
        lr_mm: first step of descent; it falls to a twentieth.
        seed: same seed, same layout.

    Raises:
        ConfigError: a number that is negative, or no restart.
    """

    steps: int = 150
    restarts: int = 16
    polish_steps: int = 1500
    lr_mm: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if min(self.steps, self.polish_steps) < 0 or self.restarts < 1 or not self.lr_mm > 0:
            raise ConfigError(f"{self}: steps must not be negative, restarts and lr_mm must be positive")


def descend(
    problem: LayoutProblem,
    start_mm: Array,
    config: DescendConfig,
    *,
    progress: Callable[[float], None] | None = None,
) -> Array:
    """Return the best legal layout that descent and moves find.

    Heat is left out at first: where the layout found without it keeps the
    limit, heat would have cost nothing. Else the search is made anew with it.

    1. Adam on comm/scale + heat + a growing weight times overlap and boundary,
       all restarts at once.
    2. `legalise_mm` on each.
    3. `anneal` on the best, from a low temperature.

    Args:
        problem: the dies; all have area.
        start_mm: `[S, 2]`, legal.
        config: how much to search.
        progress: called with the share that is done.

    Returns:
        `[S, 2]`, legal, of no higher cost than the start.
    """
    cold = _search(replace(problem, t_limit_c=math.inf), start_mm, config, progress)
    found = [start_mm, cold]
    if problem.may_be_hot and problem.t_max_c(cold) > problem.t_limit_c:
        found.append(_search(problem, start_mm, config, progress))
    if progress:
        progress(1.0)
    return min(found, key=problem.cost)


def _search(
    problem: LayoutProblem, start_mm: Array, config: DescendConfig, progress: Callable[[float], None] | None
) -> Array:
    rng = np.random.default_rng(config.seed)
    areas = problem.widths_mm * problem.heights_mm
    drawn = spectral_mm(areas, problem.traffic_bytes, rng, layouts=config.restarts - 1)
    starts = torch.as_tensor(np.concatenate([start_mm[None], drawn]))
    loose = _relax(problem, starts, config, progress)
    legal = [start_mm]
    for pos in loose:
        try:
            legal.append(
                legalise_mm(
                    pos, problem.widths_mm, problem.heights_mm, radius_mm=problem.radius_mm, gap_mm=problem.gap_mm
                )
            )
        except UnsupportedError:
            continue
    schedule = AnnealConfig(steps=config.polish_steps, start_heat=5e-4, end_heat=1e-6, jump_mm=3.0)
    best = sorted(legal, key=problem.cost)[:_POLISHED]
    polished, _ = anneal(problem, np.stack(best), schedule, rng)
    return min([*best, *polished], key=problem.cost)


def _relax(
    problem: LayoutProblem, starts: Tensor, config: DescendConfig, progress: Callable[[float], None] | None
) -> Array:
    pos = starts.clone().requires_grad_()
    widths, heights, traffic = (problem.tensor(key) for key in ("widths_mm", "heights_mm", "traffic_bytes"))
    optimizer = torch.optim.Adam([pos], lr=config.lr_mm)
    heat = HeatTable(problem) if problem.may_be_hot else None
    mean_area = float((problem.widths_mm * problem.heights_mm).mean())
    for step in range(config.steps):
        share = step / max(1, config.steps - 1)
        optimizer.param_groups[0]["lr"] = config.lr_mm * 0.05**share
        overlap = overlap_mm2(pos, widths, heights, gap_mm=problem.gap_mm) / mean_area
        outside = outside_mm2(pos, widths, heights, problem.radius_mm) / mean_area
        loss = comm_byte_mm(pos, traffic) / problem.scale_byte_mm + 0.01 * 100**share * overlap + outside
        if heat is not None:
            over = torch.relu(problem.plate.ambient_c + heat.rise_k(pos) - problem.t_limit_c)
            loss = loss + problem.heat_weight * over.square().sum(-1)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if progress:
            progress(0.4 * (step + 1) / config.steps + (0.5 if heat is not None else 0.0))
    return pos.detach().numpy()
