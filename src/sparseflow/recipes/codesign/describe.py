"""A design as plain data: dies, segments and transfers for a page, and what segments cost for another search."""

from typing import Any

import numpy as np
import torch

from sparseflow.errors import DataError
from sparseflow.hardware.system import Design, System, Tables
from sparseflow.recipes.codesign.alternate import Alternation

__all__ = ["describe", "read_design", "read_tables", "tables_body"]

_TABLES = ("lat_ms", "energy_mj", "weight_mb", "activation_mb", "traffic_bytes")


def describe(system: System, search: Alternation) -> dict[str, Any]:
    """Return the design in force: its wafer, each die with its place and load, each segment, each transfer."""
    design, cost, types = search.design, search.verdict.cost, system.types
    traffic, watts = system.demand(search.tables, design)
    problem = system.problem(search.tables, design.choice, design.pos_mm)
    lat = np.asarray(problem.lat_ms)
    dies = [
        {
            "slot": s,
            "type": types[c].name,
            "x_mm": design.pos_mm[s][0],
            "y_mm": design.pos_mm[s][1],
            "width_mm": types[c].width_mm,
            "height_mm": types[c].height_mm,
            "power_w": float(watts[s]),
            "busy_ms": float(cost.per_slot_ms[s]),
            "memory_mb": float(cost.per_slot_mb[s]),
        }
        for s, c in enumerate(design.choice)
        if c < len(types)
    ]
    return {
        "radius_mm": system.layout.radius_mm,
        "t_max_c": search.verdict.layout.t_max_c,
        "objective": system.objective,
        "period_ms": cost.period_ms,
        "total_latency_ms": cost.total_latency_ms,
        "choice": list(design.choice),
        "mapping": list(design.mapping),
        "pos_mm": [list(place) for place in design.pos_mm],
        "dies": dies,
        "segments": [{"id": k, "slot": s, "lat_ms": float(lat[k, s])} for k, s in enumerate(design.mapping)],
        "links": [{"from": s, "to": t, "bytes": float(traffic[s, t])} for s, t in traffic.nonzero().tolist()],
    }


def read_design(body: dict[str, Any]) -> Design:
    """Return the design that `describe` told of.

    Raises:
        DataError: it lacks a part.
    """
    try:
        places = tuple((float(x), float(y)) for x, y in body["pos_mm"])
        return Design(choice=tuple(body["choice"]), mapping=tuple(body["mapping"]), pos_mm=places)
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"not a design of sparseflow codesign run: {e}") from e


def tables_body(tables: Tables) -> dict[str, Any]:
    """Return what segments cost on each type of chip as plain data."""
    return {name: getattr(tables, name).tolist() for name in _TABLES}


def read_tables(body: dict[str, Any]) -> Tables:
    """Return what `tables_body` made; which layers a segment has is not kept.

    Raises:
        DataError: a table is missing.
    """
    try:
        return Tables(segments=(), **{name: torch.tensor(body[name], dtype=torch.float64) for name in _TABLES})
    except (KeyError, TypeError, ValueError) as e:
        raise DataError(f"no tables of sparseflow codesign run: {e}") from e
