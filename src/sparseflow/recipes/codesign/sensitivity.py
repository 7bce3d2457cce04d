"""What another weight in L_hw would give: the search goes on from a finished design with one of them multiplied."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sparseflow.hardware.loss import HwFigures, HwWeights
from sparseflow.recipes.codesign.alternate import Alternation
from sparseflow.recipes.codesign.config import CodesignConfig
from sparseflow.recipes.codesign.describe import read_design, read_tables
from sparseflow.recipes.codesign.predictor import Bounds
from sparseflow.recipes.codesign.run import make_system

__all__ = ["WEIGHTS", "sensitivity"]

WEIGHTS = ("latency", "energy", "memory", "comm", "area", "chip", "layout_comm")
"""Weights of L_hw that are varied."""


def sensitivity(
    body: Mapping[str, Any], *, weights: Sequence[str] = WEIGHTS, factors: Sequence[float] = (0.1, 10.0)
) -> list[dict[str, Any]]:
    """Search once more for each weight and factor, from the design that a run ended with.

    Args:
        body: what `codesign` returned.
        weights: names of weights of `HwWeights`.
        factors: that each is multiplied by.

    Returns:
        A row for each: weight, factor, latency_ms, energy_mj, area_mm2, chips, and whether the design is another one.

    Raises:
        DataError: the result lacks its design or tables.
    """
    config = read_config(body["config"])
    tables, design = read_tables(body["tables"]), read_design(body["design"])
    reference = HwFigures(
        **{name: body["reference"][name] for name in ("latency_ms", "energy_mj", "memory_mb", "comm_ms", "area_mm2")}
    )
    rows = []
    for name in weights:
        for factor in factors:
            system = make_system(config, Bounds())
            chosen = replace(config.hw, **{name: factor * getattr(config.hw, name)})
            search = Alternation(
                system, chosen, reference, design, tables, strategy=config.strategy, alpha_lr=config.alpha_lr,
                seed=config.seed,
            )  # fmt: skip
            if config.mode == "version_c_full":
                search.chips(config.outer_epochs, steps=config.steps_alpha, budget=config.candidates)
            search.mapping()
            figures = search.verdict.figures.to_dict()
            rows.append(
                {
                    "weight": name, "factor": factor, "chips": round(figures["chips"]),
                    **{n: figures[n] for n in ("latency_ms", "energy_mj", "area_mm2")},
                    "changed": (search.design.choice, search.design.mapping) != (design.choice, design.mapping),
                }
            )  # fmt: skip
    return rows


def read_config(values: Mapping[str, Any]) -> CodesignConfig:
    """Return the settings of a result; of the network's task only what the wafer needs is kept."""
    known: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in values.items() if k not in ("video", "hw")
    }
    return CodesignConfig(**known, hw=HwWeights(**values["hw"]))
