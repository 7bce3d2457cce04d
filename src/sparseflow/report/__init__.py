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
from sparseflow.report.video import Shown, VideoRow, VideoRun
from sparseflow.report.video_page import render_video, write_video
from sparseflow.report.video_pictures import kept_frames, moving_png, score_frames, strip_png
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
    "Shown",
    "SiteView",
    "Stage",
    "TriSegRun",
    "Variant",
    "VideoRow",
    "VideoRun",
    "describe",
    "headline",
    "image_png",
    "kept_frames",
    "maps_png",
    "moving_png",
    "prepare_folder",
    "render",
    "render_forecast",
    "render_triseg",
    "render_video",
    "score_frames",
    "strip_png",
    "write_atomic",
    "write_forecast",
    "write_run",
    "write_triseg",
    "write_video",
]
