"""All searchers at one budget on the same scores."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from tqdm import tqdm

from sparseflow.compress.approximate import Evaluator
from sparseflow.recipes.checks import Check
from sparseflow.recipes.triseg.methods import method_named
from sparseflow.recipes.triseg.problem import Problem, remasked
from sparseflow.recipes.triseg.search import explore, improvements
from sparseflow.recipes.triseg.search_config import SearchConfig
from sparseflow.search import Score

__all__ = ["MARKS", "SearchRow", "medians", "rival_checks", "run_rivals"]

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
    problem: Problem,
    evaluator: Evaluator,
    config: SearchConfig,
    methods: Sequence[str],
    seeds: Sequence[int],
    *,
    progress: bool = True,
) -> list[SearchRow]:
    """Run searchers for the budget of `config`, each with each seed, in the ranges that each has by default.

    Args:
        problem: what is searched.
        evaluator: scores it, alike for all.
        config: budget and settings.
        methods: names of the searchers.
        seeds: their seeds.
        progress: show a bar.
    """
    rows = []
    jobs = [(method, seed) for seed in seeds for method in methods]
    for name, seed in tqdm(jobs, desc=f"{config.episodes} evaluations each", disable=None if progress else True):
        settings = replace(config, method=name, seed=seed)
        masks = method_named(name).masks if config.masks is None else config.masks
        began = time.perf_counter()
        found = explore(remasked(problem, masks), evaluator, settings, progress=False)
        seconds = time.perf_counter() - began
        rewards = [-outcome.value for _, outcome in found.history if isinstance(outcome, Score)]
        counts = sorted({count for count in MARKS if count <= len(rewards)} | {len(rewards)})
        best = {count: max(rewards[:count]) for count in counts}
        rows.append(
            SearchRow(
                method=name,
                seed=seed,
                budget=config.episodes,
                masks=masks,
                best=best,
                seconds=seconds,
                history=tuple(map(tuple, improvements(rewards))),
            )
        )
    return rows


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
