"""The page of an approximated network: one HTML file that needs no network, and its JSON twin."""

import json
from pathlib import Path
from typing import Any

from sparseflow.report import plots, words
from sparseflow.report.files import prepare_folder, write_atomic
from sparseflow.report.page import template
from sparseflow.report.triseg import TriSegRun

__all__ = ["render_triseg", "write_triseg"]


def render_triseg(run: TriSegRun) -> str:
    """Return the run as one self-contained HTML page, like `render`.

    Args:
        run: what to show; every part that is empty is left out.

    >>> run = TriSegRun(title="AlexNet", model="alexnet", acc_teacher=92.5, acc_student=91.0, split="val", images=5000)
    >>> "1.50 points of accuracy lost" in render_triseg(run)
    True
    """
    return template("triseg.html.j2").render(**_view(run))


def write_triseg(run: TriSegRun, folder: str | Path) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder, each whole or not at all.

    Args:
        run: what to write.
        folder: where to; created if missing.

    Raises:
        DataError: the folder cannot be written.
    """
    path = prepare_folder(folder)
    page = render_triseg(run)
    data = json.dumps(run.to_dict(), indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    return write_atomic(path / "report.html", page), write_atomic(path / "report.json", data)


def _view(run: TriSegRun) -> dict[str, Any]:
    machines = list(run.cost.get("machines", ()))
    most = max((m["energy_j"] for m in machines), default=0.0)
    return {
        "run": run,
        "headline": run.headline,
        "data": run.to_dict(),
        "histograms": [plots.histogram(site, overflow=run.overflow) for site in run.sites],
        "curves": plots.curves_plane(run.curves),
        "findings": plots.findings_plane(run.findings),
        "machines": [
            {**m, "width": round(100 * m["energy_j"] / most, 2) if most else 0.0, "label": words.joules(m["energy_j"])}
            for m in machines
        ],
        "saved": machines[0]["energy_j"] / machines[2]["energy_j"] if len(machines) == 3 and most else None,
        "saved_skipping": machines[1]["energy_j"] / machines[2]["energy_j"] if len(machines) == 3 and most else None,
    }
