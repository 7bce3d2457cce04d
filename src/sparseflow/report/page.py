"""The page of a run: one HTML file that needs no network, and its JSON twin."""

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from sparseflow.report import charts, words
from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.run import Run

__all__ = ["render", "template", "write_run"]

_TEMPLATES = Path(__file__).parent / "templates"


def render(run: Run) -> str:
    """Return the run as one self-contained HTML page.

    Styles, script, charts and pictures are inlined; the page asks for nothing
    else, follows the reader's light or dark scheme, and prints.

    Args:
        run: what to show; every part that is empty is left out.

    >>> from sparseflow.ir import Report
    >>> "<title>tiny" in render(Run(title="tiny", report=Report(model="tiny", target="cpu")))
    True
    """
    return template("page.html.j2").render(**_view(run))


def write_run(run: Run, folder: str | Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder.

    Both texts are complete before the first is written, and each file is
    replaced as a whole.

    Args:
        run: what to write.
        folder: where to; created if missing.

    Returns:
        The paths of the page and of the JSON.

    Raises:
        DataError: the folder cannot be written.
    """
    path = prepare_folder(folder)
    page = render(run)
    data = json.dumps(run.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomic(path / "report.html", page), write_atomic(path / "report.json", data)


def template(name: str) -> jinja2.Template:
    """Return a page's template by file name; text is escaped in it."""
    return _environment().get_template(name)


@cache
def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters.update(
        gain=charts.gain,
        seconds=words.seconds,
        ratio=words.ratio,
        percent=words.percent,
        count=words.count,
        joules=words.joules,
        uri=_data_uri,
    )
    return env


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _view(run: Run) -> dict[str, Any]:
    layers = run.report.layers
    replaced = [x for x in layers if x.kernel != "dense"]
    known = [x.density for x in layers if x.density is not None and x.source]
    return {
        "run": run,
        "report": run.report,
        "headline": words.headline(run),
        "dense": run.best_dense,
        "ours": run.best_optimized,
        "replaced": len(replaced),
        "mean_density": sum(known) / len(known) if known else None,
        "variants": charts.variant_rows(run),
        "layer_times": charts.layer_rows(layers),
        "densities": charts.density_rows(layers),
        "predicted": any(x.predicted_s for x in layers),
        "marked": any("original" in x.timings_s for x in layers),
        "parity": [words.figure(name, value) for name, value in run.report.parity.items()],
        "scatter": charts.scatter(layers),
        "several": any(len(x.timings_s.keys() - {"dense", "original", x.kernel}) for x in layers),
        "data": run.to_dict(),
    }
