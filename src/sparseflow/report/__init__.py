"""Pictures and the one self-contained HTML page of a run."""

from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.forecast import Ahead, ForecastRun, Losses, Moment, Score
from sparseflow.report.forecast_page import render_forecast, write_forecast
from sparseflow.report.page import render, write_run
from sparseflow.report.pictures import image_png, maps_png
from sparseflow.report.run import Accuracy, Run, Sample, Stage, Variant
from sparseflow.report.triseg import Curve, Finding, SiteView, TriSegRun
from sparseflow.report.triseg_page import render_triseg, write_triseg
from sparseflow.report.words import headline

__all__ = [
    "Accuracy",
    "Ahead",
    "Curve",
    "Finding",
    "ForecastRun",
    "Losses",
    "Moment",
    "Run",
    "Sample",
    "Score",
    "SiteView",
    "Stage",
    "TriSegRun",
    "Variant",
    "describe",
    "headline",
    "image_png",
    "maps_png",
    "prepare_folder",
    "render",
    "render_forecast",
    "render_triseg",
    "write_atomic",
    "write_forecast",
    "write_run",
    "write_triseg",
]
