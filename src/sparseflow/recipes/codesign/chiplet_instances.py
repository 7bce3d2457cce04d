"""Random networks and prices for the choice of chiplets, and the best choice of all by trying every one."""

import itertools
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.layout import WaferLayout
from sparseflow.hardware.loss import HwFigures, HwWeights, compute_hw_loss
from sparseflow.hardware.mapping.objective import evaluate_many
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.hardware.system import System, Tables
from sparseflow.recipes.codesign.predictor import Bounds

_S = TypeVar("_S", bound=System)

__all__ = ["best_of_all", "random_layers", "random_weights", "small_system"]


def random_layers(seed: int, *, blocks: int = 12) -> tuple[LayerSpec, ...]:
    """Return a transformer whose width doubles and whose tokens fall where a stage ends, as many do.

    Args:
        seed: of widths, tokens, and where stages end.
        blocks: attention and MLP each.
    """
    r = np.random.default_rng(seed)
    channels, tokens = int(r.choice([192, 256, 384])), int(r.choice([784, 1024, 1568]))
    ends = set(r.choice(np.arange(1, blocks), size=2, replace=False).tolist())
    layers: list[LayerSpec] = []
    for i in range(blocks):
        if i in ends:
            channels, tokens = 2 * channels, tokens // int(r.integers(1, 4))
        sizes = {"tokens": tokens, "channels": channels, "batch": 8, "precision": "float16"}
        layers.append(LayerSpec(name=f"blocks.{i}.attn", kind="attn", heads=channels // 64, **sizes))  # type: ignore[arg-type]
        layers.append(LayerSpec(name=f"blocks.{i}.mlp", kind="mlp", mlp_ratio=4.0, **sizes))  # type: ignore[arg-type]
    return tuple(layers)


def random_weights(seed: int) -> HwWeights:
    """Return weights of L_hw in logarithms, by which few, many, large or small chips may be best."""
    r = np.random.default_rng(seed)
    return HwWeights(
        latency=float(r.uniform(0.3, 1.5)),
        energy=float(r.uniform(0.3, 1.5)),
        chip=float(r.choice([0.0, 0.01, 0.1])),
        area_limit_mm2=float(r.choice([700.0, 1300.0, 9600.0])),
        layout_comm=0.0,
    )


def small_system(kind: type[_S], *, slots: int = 4) -> _S:
    """Return a wafer of big and small cores by their rooflines, dies on the grid; `kind` is the class to build."""
    return kind(
        load_library(names=["big_core", "small_core"]),
        Bounds(),
        slots=slots,
        layout=WaferLayout(slots=slots, optimize_layout=False),
    )


def best_of_all(system: System, tables: Tables, weights: HwWeights, reference: HwFigures) -> float:
    """Return the least L_hw of all choices of chips and all mappings, dies on the grid.

    Cost: (M+1)^S choices of S^K mappings at most.

    Raises:
        UnsupportedError: nothing holds the network.
    """
    slots, empty = len(system.slots.logits), len(system.types)
    best = float("inf")
    # The grid gives every slot the same cell, but places differ: no symmetry is used.
    for choice in itertools.product(range(empty + 1), repeat=slots):
        used = [s for s, c in enumerate(choice) if c < empty]
        if used:
            best = min(best, float(_all_mappings(system, tables, choice, used, weights, reference).min()))
    if best == float("inf"):
        raise UnsupportedError("no choice of chips has the memory that the network needs")
    return best


def _all_mappings(
    system: System, tables: Tables, choice: tuple[int, ...], used: list[int], weights: HwWeights, reference: HwFigures
) -> Tensor:
    problem = system.problem(tables, choice, system.layout.grid(*system.sizes(choice)))
    mappings = np.array(list(itertools.product(used, repeat=problem.segments)))
    many = evaluate_many(problem, mappings)
    tdp = np.array([system.types[c].tdp_w if c < len(system.types) else 0.0 for c in choice])
    waits = np.maximum(many.period_ms[:, None] - many.per_slot_ms, 0.0) @ tdp
    area = sum(system.types[c].area_mm2 for c in choice if c < len(system.types))
    figures = HwFigures(
        latency_ms=torch.from_numpy(many.period_ms),
        energy_mj=torch.from_numpy(many.energy_mj + system.idle_share * waits),
        memory_mb=torch.from_numpy(many.per_slot_mb.max(1)),
        comm_ms=torch.from_numpy(many.comm_ms),
        area_mm2=area,
        chips=float(len(used)),
    )
    total = torch.as_tensor(compute_hw_loss(figures, weights, reference)["total"])
    return torch.where(torch.from_numpy(many.violations == 0), total, torch.inf)
