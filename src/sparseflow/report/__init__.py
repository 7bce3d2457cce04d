"""Pictures and the one self-contained HTML page of a run."""

from sparseflow.report.codesign import CodesignRun, Die, Link, Phase, Seen, Slice, Weighing
from sparseflow.report.codesign_page import front, render_codesign, schedule, write_codesign
from sparseflow.report.environment import describe
from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.forecast import Ahead, ForecastRun, Losses, Moment, Score
from sparseflow.report.forecast_page import render_forecast, write_forecast
from sparseflow.report.page import render, write_run
from sparseflow.report.pictures import heat_png, image_png, maps_png
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
    "CodesignRun",
    "Curve",
    "Die",
    "Finding",
    "ForecastRun",
    "Link",
    "Losses",
    "Moment",
    "Phase",
    "Run",
    "Sample",
    "Score",
    "Seen",
    "Shown",
    "SiteView",
    "Slice",
    "Stage",
    "TriSegRun",
    "Variant",
    "VideoRow",
    "VideoRun",
    "Weighing",
    "describe",
    "front",
    "headline",
    "heat_png",
    "image_png",
    "kept_frames",
    "maps_png",
    "moving_png",
    "prepare_folder",
    "render",
    "render_codesign",
    "render_forecast",
    "render_triseg",
    "render_video",
    "schedule",
    "score_frames",
    "strip_png",
    "write_atomic",
    "write_codesign",
    "write_forecast",
    "write_run",
    "write_triseg",
    "write_video",
]
