"""Faults 10, 18, 19 and 20 of the earlier co-design: its loss, its units and its loop."""

import itertools

import pytest
import torch

from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.loss import HwFigures, HwWeights, compute_hw_loss
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.hardware.system import System
from sparseflow.recipes.codesign.alternate import Alternation, start_design
from sparseflow.recipes.codesign.predictor import Bounds

FIXED = ("big_core", "big_core")


def _search(weights: HwWeights, slots: int = 4) -> Alternation:
    given = {"tokens": 784, "channels": 768, "batch": 16, "precision": "float16"}
    layers = [
        layer
        for i in range(4)
        for layer in (
            LayerSpec(name=f"a{i}", kind="attn", heads=12, **given),
            LayerSpec(name=f"m{i}", kind="mlp", mlp_ratio=4.0, **given),
        )
    ]
    system = System(load_library(names=["big_core", "small_core"]), Bounds(), slots=slots, segment_size=1)
    tables = system.tables(layers)
    start = start_design(system, FIXED, len(tables.segments))
    return Alternation(system, weights, system.judge(tables, start).figures, start, tables)


def test_10_latency_reaches_the_chips():
    """Latency left the graph by .item(), α saw its own price alone, and 12 expected chips became .01 in 600 steps."""
    search = _search(HwWeights(chip=1e-3))
    slots = search.system.slots
    slots.train()
    optimizer = torch.optim.Adam([slots.logits], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        alpha = slots.alpha(noise=search.noise, tau=1.0)
        compute_hw_loss(search.system.relaxed(search.tables, alpha, search.design), search.weights, search.reference)[
            "total"
        ].backward()
        optimizer.step()
    used = sorted(set(search.design.mapping))
    with torch.no_grad():
        present = 1 - slots.alpha(noise=search.noise, tau=1.0)[:, -1]
    assert float(present[used].min()) > 0.9
    assert all(c < 2 for c in (slots.choice()[s] for s in used))


def test_18_the_area_limit_of_the_settings_binds():
    """The limit was nearly the whole disc, 70 000 mm², which no wafer of 16 dies reached."""
    small, large = (_search(HwWeights(area_limit_mm2=limit)) for limit in (700.0, 9600.0))
    for search in (small, large):
        for epoch in range(2):
            search.chips(epoch, steps=3, budget=24)
    assert small.verdict.figures.area_mm2 < large.verdict.figures.area_mm2


@pytest.mark.parametrize("unit", [1e-3, 1e3])
def test_19_units_do_not_weigh(unit):
    """Milliseconds, joules, megabytes and mm² were added as they were."""
    weights = HwWeights()
    base = HwFigures(latency_ms=2.0, energy_mj=3.0, memory_mb=5.0, comm_ms=0.1)
    other = HwFigures(latency_ms=1.0, energy_mj=2.0, memory_mb=4.0, comm_ms=0.2)

    def scaled(f: HwFigures) -> HwFigures:
        return HwFigures(
            latency_ms=f.latency_ms, energy_mj=unit * f.energy_mj, memory_mb=unit * f.memory_mb, comm_ms=f.comm_ms
        )

    plain = compute_hw_loss(other, weights, base)["total"]
    assert compute_hw_loss(scaled(other), weights, scaled(base))["total"] == pytest.approx(plain)


def test_20_designs_do_not_swing():
    """Fresh noise and a new mapping at each step made the design go to and fro."""
    search = _search(HwWeights())
    trail = [(search.objective, search.design)]
    for epoch in range(3):
        for phase in (lambda e=epoch: search.chips(e, steps=3, budget=8), search.mapping):
            phase()
            trail.append((search.objective, search.design))
    assert all(b[0] <= a[0] for a, b in itertools.pairwise(trail))
    states = [design for _, design in trail]
    moved = [s for i, s in enumerate(states) if i == 0 or s != states[i - 1]]
    assert all(s not in moved[:i] for i, s in enumerate(moved))
