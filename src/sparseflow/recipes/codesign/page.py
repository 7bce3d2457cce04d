"""The page of a co-design, from what `run` wrote."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparseflow import report as pages
from sparseflow.errors import ConfigError, DataError
from sparseflow.hardware.layout import Plate
from sparseflow.recipes.codesign.log import read_stats
from sparseflow.recipes.codesign.sensitivity import sensitivity

__all__ = ["codesign_page"]

_GRID = 96
_MOST_SEEN = 400


def codesign_page(results: Sequence[str], folder: str | Path) -> dict[str, Any]:
    """Draw a design, its pipeline, its search and what other weights would give, and write a page.

    Args:
        results: files `codesign.json` of `run`; the first one is drawn, designs of all are compared.
        folder: where `report.html` and `report.json` go.

    Returns:
        The body of `report.json`, with the paths of both files under `files`.

    Raises:
        ConfigError: no result.
        DataError: a result or its log cannot be read, or the folder cannot be written.
    """
    if not results:
        raise ConfigError("no result to draw; name at least one codesign.json")
    bodies = [_read(name) for name in results]
    body = bodies[0]
    design, path = body["design"], pages.prepare_folder(folder)
    dies = tuple(
        pages.Die(busy=die.pop("busy_ms") / design["period_ms"], **die) for die in (dict(d) for d in design["dies"])
    )
    heat, span = _heat(design["radius_mm"], dies)
    f, test = body["figures"], body["test"]
    figures = [
        ("Latency of a sample" if design["objective"] == "serial" else "Period", f["latency_ms"], "ms"),
        ("Energy of a sample", f["energy_mj"], "mJ"),
        ("Energy-delay product", f["edp"], "mJ·ms"),
        ("Area of all dies", f["area_mm2"], "mm²"),
        ("Fullest slot", f["memory_mb"], "MB"),
        ("Transfers of a sample", f["comm_ms"], "ms"),
    ]
    if test is not None:
        figures.append(("Top-1", 100 * test["top1"], "%"))
    lines = read_stats(body["log"])
    run = pages.CodesignRun(
        title=f"Co-design, {body['mode']}, seed {body['seed']}",
        headline=_headline(body),
        network=_network(body),
        radius_mm=design["radius_mm"],
        t_max_c=design["t_max_c"],
        dies=dies,
        links=tuple(pages.Link(source=x["from"], target=x["to"], bytes=x["bytes"]) for x in design["links"]),
        heat=heat,
        heat_span_c=span,
        gantt=tuple(pages.schedule([(s["slot"], s["lat_ms"]) for s in design["segments"]], dies)),
        phases=tuple(
            pages.Phase(epoch=x.epoch, phase=x.phase, accepted=x.accepted, objective=x.objective) for x in lines
        ),
        seen=_seen(bodies),
        weighings=tuple(pages.Weighing(**row) for row in sensitivity(body)),
        figures=tuple(figures),
        environment=pages.describe(),
        protocol=(
            f"Costs of layers: {body['config']['proxy']}. Segments run one after the other on their slot.",
            "Chips, mapping and placement are taken only where the hard objective falls.",
            "Heat: a plate of the wafer's size, cooled from its back, dies as even sources.",
        ),
        command=f"sparseflow codesign report {' '.join(map(str, results))} --out {folder}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    files = pages.write_codesign(run, path)
    return {**run.to_dict(), "files": [str(file) for file in files]}


def _read(name: str) -> dict[str, Any]:
    try:
        body: dict[str, Any] = json.loads(Path(name).read_text(encoding="utf-8"))
        body["design"]["dies"], body["tables"], body["log"]
    except (OSError, ValueError, KeyError, TypeError) as e:
        raise DataError(f"{name} is no result of sparseflow codesign run: {e}") from e
    return body


def _headline(body: dict[str, Any]) -> str:
    f = body["figures"]
    chips = round(f["chips"])
    said = f"{1 / body['edp_ratio']:.2f} times less energy-delay than the dense network on fixed chips"
    return f"{said}, on {chips} chip{'s' * (chips != 1)} of {f['area_mm2']:.0f} mm²"


def _network(body: dict[str, Any]) -> str:
    config = body["config"]
    if config["workload"] is not None:
        return f"Traced network {config['workload']}"
    kept = body["keeps"].get("token", 1.0)
    return f"Video transformer on {config['video']['dataset']}, {kept:.0%} of its tokens kept"


def _heat(radius_mm: float, dies: Sequence[pages.Die]) -> tuple[bytes, tuple[float, float]]:
    """Return a picture of the temperature over the wafer's square, north up, and its span in °C."""
    plate = Plate(radius_mm=radius_mm)
    side = torch.linspace(-radius_mm, radius_mm, _GRID, dtype=torch.float64)
    y, x = torch.meshgrid(side.flip(0), side, indexing="ij")
    points = torch.stack([x, y], -1).view(-1, 2)
    # Beyond the rim there is no plate; the mirrored source needs points inside of it.
    inside = points.norm(dim=-1) < 0.995 * radius_mm
    sizes = (
        torch.tensor([[d.x_mm, d.y_mm] for d in dies], dtype=torch.float64),
        *(
            torch.tensor([getattr(d, n) for d in dies], dtype=torch.float64)
            for n in ("width_mm", "height_mm", "power_w")
        ),
    )
    celsius = torch.full((len(points),), float(plate.ambient_c), dtype=torch.float64)
    celsius[inside] += plate.rise_k(points[inside], *sizes)
    low, high = float(celsius.min()), float(celsius.max())
    unit = (celsius.view(_GRID, _GRID) - low) / max(high - low, 1e-9)
    return pages.heat_png(unit.numpy().astype(np.float32)), (low, high)


def _seen(bodies: Sequence[dict[str, Any]]) -> tuple[pages.Seen, ...]:
    """Return the designs that were judged in all runs, each once, and which lie on the front."""
    names = ("latency_ms", "energy_mj", "area_mm2")
    rows = {tuple(row[n] for n in names): round(row["chips"]) for body in bodies for row in body["seen"]}
    chosen = tuple(bodies[0]["figures"][n] for n in names)
    rows.setdefault(chosen, round(bodies[0]["figures"]["chips"]))
    points = list(rows)
    ahead = pages.front(points)
    # A long search is thinned; what matters stays.
    step = max(1, len(points) // _MOST_SEEN)
    return tuple(
        pages.Seen(
            latency_ms=p[0], energy_mj=p[1], area_mm2=p[2], chips=rows[p], front=first, chosen=p == chosen
        )
        for i, (p, first) in enumerate(zip(points, ahead, strict=True))
        if first or p == chosen or i % step == 0
    )  # fmt: skip
