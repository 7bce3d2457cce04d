"""Benchmark of tri-segment search: searchers at one budget, candidates a second, exactness."""

from sparseflow.recipes.triseg.bench.bench import SUITES, TriSegBenchConfig, bench
from sparseflow.recipes.triseg.bench.exact import exact_checks
from sparseflow.recipes.triseg.bench.rates import Rate, time_scores, time_update
from sparseflow.recipes.triseg.bench.rivals import SearchRow, run_apart, run_rivals

__all__ = [
    "SUITES",
    "Rate",
    "SearchRow",
    "TriSegBenchConfig",
    "bench",
    "exact_checks",
    "run_apart",
    "run_rivals",
    "time_scores",
    "time_update",
]
