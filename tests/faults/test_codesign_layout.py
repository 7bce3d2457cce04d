"""Faults of the earlier choice of chiplets and of the earlier layout: shown as they were, and gone.

The numbers are those of the list of faults.
"""

import math

import numpy as np
import pytest
import torch

from sparseflow.hardware.chiplet import ChipletSlots, load_library
from sparseflow.hardware.layout import DescendConfig, Plate, WaferLayout
from sparseflow.hardware.layout.rectangles import corner_excess_mm, overlap_mm2
from sparseflow.recipes.codesign.layout_instances import random_dies

TYPES = load_library(names=["big_core", "small_core"])
KEYS = ("widths_mm", "heights_mm", "traffic_bytes", "power_w")


def expected_chips(latency_ms):
    slots = ChipletSlots(TYPES, slots=8)
    optimizer = torch.optim.Adam(slots.parameters(), lr=0.05)
    for _ in range(300):
        alpha = slots.alpha()
        loss = latency_ms(slots, alpha) + 1e-3 * slots.chip_loss(alpha)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return slots.chip_loss(slots.alpha()).item()


def test_10_and_11_chips_do_not_vanish_since_latency_reaches_the_slots():
    cost = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    assert expected_chips(lambda slots, alpha: slots.expected(cost, alpha).mean().item()) < 0.5
    # The sum over real types alone is cheapest where a slot is empty.
    assert expected_chips(lambda slots, alpha: (cost @ alpha[:, :-1].T).mean()) < 0.5
    assert expected_chips(lambda slots, alpha: slots.expected(cost, alpha).mean()) > 7.5


def test_11_a_mean_of_latencies_is_no_latency_of_a_mean():
    slots = ChipletSlots(TYPES, slots=1)
    with torch.no_grad():
        slots.logits.copy_(torch.tensor([[0.0, 0.0, -40.0]]))
    alpha = slots.alpha()
    rates = torch.tensor([t.peak_flops_per_s for t in TYPES], dtype=torch.float64)
    mean_of_latencies = slots.expected(1e15 / rates[None], alpha).item()
    of_a_mean = 1e15 / slots.eff_specs(alpha)["peak_flops_per_s"].item()
    assert mean_of_latencies == pytest.approx((10 + 1e15 / 3e13) / 2)
    assert of_a_mean < 0.75 * mean_of_latencies


def test_16_a_layout_moves():
    problem = random_dies(0, dies=6)
    operands = [problem.tensor(key) for key in KEYS]
    layout = WaferLayout(slots=6)
    start = layout.pos_mm.detach().clone()
    with torch.no_grad():
        layout.pos_mm.zero_()
    stuck = layout.loss(*operands)
    (slope,) = torch.autograd.grad(stuck["overlap"] + stuck["comm"], layout.pos_mm)
    assert stuck["overlap"] > 0
    assert slope.abs().max() == 0
    with torch.no_grad():
        layout.pos_mm.copy_(start)
    found = layout.optimize(*operands, config=DescendConfig(steps=30, restarts=2, polish_steps=50))
    assert found.legal
    assert np.abs(found.pos_mm - start.numpy()).max() > 1


@pytest.mark.parametrize("aspect", [1.0, 1.5, 2.0])
def test_17_circles_that_are_clear_hold_rectangles_that_are_not(aspect):
    rng = np.random.default_rng(0)
    area = rng.uniform(100, 600, (400, 2))
    circles = np.sqrt(area / math.pi).sum(1)
    angle = rng.uniform(0, 2 * math.pi, 400)
    # Up to five in a hundred beyond touching, as circles.
    apart = circles * rng.uniform(1.0, 1.05, 400)
    other = np.stack([apart * np.cos(angle), apart * np.sin(angle)], -1)
    overlaps = 0
    for pos, areas in zip(other, area, strict=True):
        widths, heights = torch.as_tensor(np.sqrt(areas * aspect)), torch.as_tensor(np.sqrt(areas / aspect))
        pair = torch.as_tensor(np.stack([np.zeros(2), pos]))
        overlaps += bool(overlap_mm2(pair, widths, heights) > 0)
    assert overlaps > 0.25 * len(other)


def test_17_a_corner_reaches_farther_than_the_circle():
    side = torch.tensor([math.sqrt(600)])
    corner = corner_excess_mm(torch.zeros(1, 2), side, side, 0.0).item()
    assert corner == pytest.approx(17.3, abs=0.05)
    assert math.sqrt(600 / math.pi) == pytest.approx(13.8, abs=0.05)


def test_18_heat_binds():
    spots = torch.zeros(16, 2, dtype=torch.float64)
    side = torch.full((16,), math.sqrt(600), dtype=torch.float64)
    power = torch.full((16,), 350.0, dtype=torch.float64)
    literal = 25 + 0.01 * power.sum().item()
    assert literal < 85
    assert Plate().t_max_c(spots, side, side, power).item() > 85
    layout = WaferLayout(slots=16)
    with torch.no_grad():
        layout.pos_mm.zero_()
    assert layout.loss(side, side, torch.zeros(16, 16), power)["thermal"] > 0
