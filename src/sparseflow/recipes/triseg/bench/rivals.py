"""All searchers at one budget on the same scores."""

import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from typing import Any

import torch
from tqdm import tqdm

from sparseflow.compress.approximate import Evaluator
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.bench.rates import images_for
from sparseflow.recipes.triseg.methods import method_named
from sparseflow.recipes.triseg.problem import Problem, pose, remasked
from sparseflow.recipes.triseg.search import explore, improvements
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.search import Score

__all__ = ["MARKS", "SearchRow", "Task", "medians", "rival_checks", "run_apart", "run_rivals"]

Task = tuple[SearchConfig, str, int]
"""Settings with the budget, the method and the seed of one search."""

MARKS = (1, 10, 25, 50, 100, 150, 200, 300, 400, 500, 600, 1000, 2000, 3000, 5000, 7000, 10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRow:
    """One searcher with one seed.

    Args:
        method: the searcher.
        seed: its seed.
        budget: evaluations in all.
        masks: ranges of the codes.
        best: best reward after so many evaluations.
        seconds: time of the search, scores included that another search had computed.
        history: evaluations and best reward where it rose, and at the end, as a picture draws it.
    """

    method: str
    seed: int
    budget: int
    masks: str
    best: dict[int, float]
    seconds: float
    history: tuple[tuple[float, ...], ...] = ()

    @property
    def reward(self) -> float:
        """Best reward in the end."""
        return self.best[max(self.best)]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {**asdict(self), "best": {str(count): reward for count, reward in self.best.items()}}


def run_rivals(
    problem: Problem, evaluator: Evaluator, tasks: Sequence[Task], *, progress: bool = True
) -> list[SearchRow]:
    """Run searches, each in the ranges that its method has by default.

    Args:
        problem: what is searched.
        evaluator: scores it, alike for all.
        tasks: settings with the budget, method and seed of each.
        progress: show a bar.
    """
    shown = tqdm(tasks, desc="searches", disable=None if progress else True)
    return [_run(problem, evaluator, replace(config, method=name, seed=seed)) for config, name, seed in shown]


def run_apart(tasks: Sequence[Task], *, jobs: int, progress: bool = True) -> list[SearchRow]:
    """Run searches in processes of their own, which load network and images once each; same rewards as `run_rivals`.

    Args:
        tasks: settings with the budget, method and seed of each; the same network and images in all.
        jobs: processes; each has its part of the threads of torch.
        progress: show a bar.
    """
    threads = max(1, torch.get_num_threads() // jobs)
    with ProcessPoolExecutor(
        jobs, mp_context=get_context("spawn"), initializer=_begin, initargs=(tasks[0][0], threads)
    ) as pool:
        rows = pool.map(_run_here, tasks)
        shown = tqdm(rows, total=len(tasks), desc=f"{jobs} searches at a time", disable=None if progress else True)
        return list(shown)


_HERE: dict[str, Any] = {}


def _begin(config: SearchConfig, threads: int) -> None:
    torch.set_num_threads(threads)
    problem = pose(config)
    _HERE.update(problem=problem, evaluator=problem.evaluator(images_for(problem, config.batch_size)))


def _run_here(task: Task) -> SearchRow:
    return run_rivals(_HERE["problem"], _HERE["evaluator"], [task], progress=False)[0]


def _run(problem: Problem, evaluator: Evaluator, config: SearchConfig) -> SearchRow:
    masks = method_named(config.method).masks if config.masks is None else config.masks
    began = time.perf_counter()
    found = explore(remasked(problem, masks), evaluator, config, progress=False)
    seconds = time.perf_counter() - began
    rewards = [-outcome.value for _, outcome in found.history if isinstance(outcome, Score)]
    counts = sorted({count for count in MARKS if count <= len(rewards)} | {len(rewards)})
    return SearchRow(
        method=config.method,
        seed=config.seed,
        budget=config.episodes,
        masks=masks,
        best={count: max(rewards[:count]) for count in counts},
        seconds=seconds,
        history=tuple(map(tuple, improvements(rewards))),
    )


def medians(rows: Sequence[SearchRow], count: int | None = None) -> dict[str, float]:
    """Return the median over the seeds of the best reward, by method.

    Args:
        rows: of one budget.
        count: evaluations after which; None for the end. Methods that were not looked at there are left out.
    """
    out: dict[str, list[float]] = {}
    for row in rows:
        if count is None or count in row.best:
            out.setdefault(row.method, []).append(row.reward if count is None else row.best[count])
    return {method: statistics.median(rewards) for method, rewards in out.items()}


def rival_checks(rows: Sequence[SearchRow], *, ours: str = "default") -> list[Check]:
    """Hold the median reward of our searcher against that of each other.

    Args:
        rows: all with one budget.
        ours: the searcher that has to win.
    """
    end = medians(rows)
    budget, seeds = rows[0].budget, len({row.seed for row in rows})
    checks = [
        Check(
            show="2",
            name=f"median reward of {ours} over {seeds} seeds above that of {rival}, {budget} evaluations each",
            value=end[ours] - reward,
            unit="reward",
            rule=">=",
            bound=0.0,
        )
        for rival, reward in end.items()
        if rival != ours
    ]
    early, later = medians(rows, 100), medians(rows, 300)
    if ours in early and "cmaes" in later:
        checks.append(
            Check(
                show="2",
                name=f"median reward of {ours} at 100 evaluations above that of cmaes at 300",
                value=early[ours] - later["cmaes"],
                unit="reward",
                rule=">=",
                bound=0.0,
            )
        )
    return checks
