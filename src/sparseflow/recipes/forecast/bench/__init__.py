"""The bench of the forecaster: the scan against float64 and mambapy, the network against plain torch."""

from sparseflow.recipes.forecast.bench.bench import SUITES, ForecastBenchConfig, bench

__all__ = ["SUITES", "ForecastBenchConfig", "bench"]
