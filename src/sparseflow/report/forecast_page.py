"""The page of a forecaster: one HTML file that needs no network, and its JSON twin."""

import json
from pathlib import Path
from typing import Any

from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.forecast import ForecastRun
from sparseflow.report.forecast_plots import losses_plane, steps_plane, strip
from sparseflow.report.page import template

__all__ = ["render_forecast", "write_forecast"]


def render_forecast(run: ForecastRun) -> str:
    """Return the run as one self-contained HTML page, like `render`.

    Args:
        run: what to show; every part that is empty is left out.

    >>> from sparseflow.report.forecast import Score
    >>> row = Score(name="seed 1", mse=0.37, mae=0.39)
    >>> run = ForecastRun(title="ETTh1", split="test", windows=9, seq_len=96, forecast_len=96, results=(row,))
    >>> "MSE 0.370" in render_forecast(run)
    True
    """
    return template("forecast.html.j2").render(**_view(run))


def write_forecast(run: ForecastRun, folder: str | Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder, each whole or not at all.

    Args:
        run: what to write.
        folder: where to; created if missing.

    Raises:
        DataError: the folder cannot be written.
    """
    path = prepare_folder(folder)
    page = render_forecast(run)
    data = json.dumps(run.to_dict(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomic(path / "report.html", page), write_atomic(path / "report.json", data)


def _view(run: ForecastRun) -> dict[str, Any]:
    most = max(row.mse for row in run.results)
    return {
        "run": run,
        "headline": run.headline,
        "data": run.to_dict(),
        "rows": [(row, round(100 * row.mse / most, 2) if most else 0.0) for row in run.results],
        "moments": [(moment.title, [strip(view) for view in moment.variates]) for moment in run.moments],
        "losses": losses_plane(run.losses),
        "steps": steps_plane(run.by_step),
    }
