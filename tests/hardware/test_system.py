from dataclasses import replace

import pytest
import torch

from sparseflow.errors import UnsupportedError
from sparseflow.hardware.chiplet import load_library
from sparseflow.hardware.loss import HwWeights, compute_hw_loss
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.hardware.system import Design, System
from sparseflow.recipes.codesign.predictor import Bounds

TYPES = load_library(names=["big_core", "small_core"])


def _layers(keep=1.0) -> list[LayerSpec]:
    given = {"tokens": 256, "channels": 384, "batch": 16, "precision": "float16", "keep_token": keep}
    block = [
        LayerSpec(name="a", kind="attn", heads=6, **given),
        LayerSpec(name="m", kind="mlp", mlp_ratio=4.0, **given),
    ]
    return [replace(x, name=f"{x.name}{i}") for i in range(4) for x in block]


def _system(objective="balanced", **given) -> System:
    return System(TYPES, Bounds(), slots=4, objective=objective, segment_size=1, **given)


DESIGN = Design(choice=(0, 1, 2, 0), mapping=(0, 0, 1, 3), pos_mm=((-40.0, 0.0), (0.0, 0.0), (40.0, 0.0), (0.0, 40.0)))


@pytest.mark.parametrize("objective", ["serial", "balanced"])
def test_certain_chances_cost_what_the_design_costs(objective):
    system = _system(objective)
    tables = system.tables(_layers())
    hard = system.judge(tables, DESIGN).figures
    soft = system.relaxed(tables, system.one_hot(DESIGN.choice), DESIGN, sharpness=None)
    for name in ("latency_ms", "energy_mj", "memory_mb", "comm_ms", "area_mm2", "chips"):
        assert float(getattr(soft, name)) == pytest.approx(float(getattr(hard, name)), rel=1e-9), name


@pytest.mark.parametrize("objective", ["serial", "balanced"])
def test_the_gradient_of_chips_is_that_of_finite_differences(objective):
    system = _system(objective)
    tables = system.tables(_layers())
    base = system.judge(tables, DESIGN).figures
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, dtype=torch.float64, generator=generator).requires_grad_()

    def total(values):
        figures = system.relaxed(tables, torch.softmax(values, -1), DESIGN)
        return compute_hw_loss(figures, HwWeights(), base)["total"]

    total(logits).backward()
    step = 1e-6
    for i in range(4):
        for j in range(3):
            moved = torch.zeros_like(logits)
            moved[i, j] = step
            with torch.no_grad():
                slope = (total(logits + moved) - total(logits - moved)) / (2 * step)
            assert float(logits.grad[i, j]) == pytest.approx(float(slope), rel=1e-3, abs=1e-7)


def test_the_bill_reaches_the_shares_that_are_kept():
    system = _system()
    keep = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    tables = system.tables(_layers(keep), only={0, 1})
    figures = system.relaxed(tables, system.one_hot(DESIGN.choice), DESIGN)
    (figures.latency_ms * figures.energy_mj).backward()
    assert float(keep.grad) > 0


def test_a_segment_on_an_empty_slot_is_refused():
    system = _system()
    with pytest.raises(UnsupportedError, match="empty"):
        system.judge(system.tables(_layers()), replace(DESIGN, mapping=(0, 0, 2, 3)))


def test_a_die_that_is_too_small_is_refused():
    tiny = [replace(t, mem_gb=1e-3) for t in TYPES]
    system = System(tiny, Bounds(), slots=4, segment_size=1)
    with pytest.raises(UnsupportedError, match="small"):
        system.judge(system.tables(_layers()), DESIGN)


def test_dies_that_wait_draw_power():
    busy, idle = _system(idle_share=0.0), _system(idle_share=0.2)
    a, b = (s.judge(s.tables(_layers()), DESIGN) for s in (busy, idle))
    waited = sum(
        TYPES[c].tdp_w * (a.cost.period_ms - ms)
        for c, ms in zip(DESIGN.choice, a.cost.per_slot_ms, strict=True)
        if c < 2
    )
    assert b.figures.energy_mj - a.figures.energy_mj == pytest.approx(0.2 * waited)


def test_types_that_are_not_asked_for_cost_nothing():
    system = _system()
    some, all_ = system.tables(_layers(), only={1}), system.tables(_layers())
    assert not some.lat_ms[:, 0].any()
    assert torch.equal(some.lat_ms[:, 1], all_.lat_ms[:, 1])
