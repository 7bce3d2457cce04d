"""Forecasting: train CMamba on series, score it on all windows, and forecast what comes next."""

from sparseflow.recipes.forecast.checkpoint import Forecaster, load_forecaster, save_forecaster, shipped
from sparseflow.recipes.forecast.config import ForecastConfig
from sparseflow.recipes.forecast.evaluate import evaluate
from sparseflow.recipes.forecast.predict import predict, predict_windows
from sparseflow.recipes.forecast.table import table_of
from sparseflow.recipes.forecast.train import train_forecaster

__all__ = [
    "ForecastConfig",
    "Forecaster",
    "evaluate",
    "load_forecaster",
    "predict",
    "predict_windows",
    "save_forecaster",
    "shipped",
    "table_of",
    "train_forecaster",
]
