"""Layouts by gradient descent from many legal starts, made legal, then polished by moves."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.hardware.layout.anneal import AnnealConfig, anneal
from sparseflow.hardware.layout.legal import legalise_mm
from sparseflow.hardware.layout.problem import LayoutProblem
from sparseflow.hardware.layout.rectangles import comm_byte_mm, outside_mm2, overlap_mm2

__all__ = ["DescendConfig", "descend"]

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class DescendConfig:
    """How much to search.

    Args:
        steps: steps of descent.
        restarts: descents at once; the first starts where the dies are, the
            others with the dies exchanged at random.
        polish_steps: moves tried on each legal layout.
        lr_mm: first step of descent; it falls to a twentieth.
        seed: same seed, same layout.

    Raises:
        ConfigError: a number that is negative, or no restart.
    """

    steps: int = 150
    restarts: int = 16
    polish_steps: int = 3000
    lr_mm: float = 4.0
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

    1. Adam on comm/scale + heat + a growing weight times overlap and boundary,
       all restarts at once.
    2. `legalise_mm` on each.
    3. `anneal` on all legal ones, from a low temperature, the start among them.

    Args:
        problem: the dies; all have area.
        start_mm: `[S, 2]`, legal.
        config: how much to search.
        progress: called with the share that is done.

    Returns:
        `[S, 2]`, legal, of no higher cost than the start.
    """
    rng = np.random.default_rng(config.seed)
    starts = np.stack([start_mm] + [start_mm[rng.permutation(len(start_mm))] for _ in range(config.restarts - 1)])
    loose = _relax(problem, torch.as_tensor(starts), config, progress)
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
    schedule = AnnealConfig(steps=config.polish_steps, start_heat=0.01, end_heat=1e-6, jump_mm=10.0)
    polished, _ = anneal(problem, np.stack(legal), schedule, rng)
    if progress:
        progress(1.0)
    return min([start_mm, *polished], key=problem.cost)


def _relax(
    problem: LayoutProblem, starts: Tensor, config: DescendConfig, progress: Callable[[float], None] | None
) -> Array:
    pos = starts.clone().requires_grad_()
    widths, heights, traffic, power = (
        problem.tensor(key) for key in ("widths_mm", "heights_mm", "traffic_bytes", "power_w")
    )
    optimizer = torch.optim.Adam([pos], lr=config.lr_mm)
    mean_area = float((problem.widths_mm * problem.heights_mm).mean())
    for step in range(config.steps):
        share = step / max(1, config.steps - 1)
        optimizer.param_groups[0]["lr"] = config.lr_mm * 0.05**share
        overlap = overlap_mm2(pos, widths, heights, gap_mm=problem.gap_mm) / mean_area
        outside = outside_mm2(pos, widths, heights, problem.radius_mm) / mean_area
        loss = comm_byte_mm(pos, traffic) / problem.scale_byte_mm + 0.01 * 100**share * overlap + outside
        if problem.may_be_hot:
            rise = problem.plate.rise_k(pos, pos, widths, heights, power, edge=False).amax(-1)
            over = torch.relu(problem.plate.ambient_c + rise - problem.t_limit_c)
            loss = loss + problem.heat_weight * over.square()
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if progress:
            progress(0.5 * (step + 1) / config.steps)
    return pos.detach().numpy()
