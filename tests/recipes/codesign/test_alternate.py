import itertools

import pytest

from sparseflow.errors import ConfigError
from sparseflow.hardware.chiplet import ChipletSlots
from sparseflow.hardware.layout import WaferLayout
from sparseflow.hardware.loss import HwWeights
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.recipes.codesign.alternate import Alternation, start_design

WEIGHTS = HwWeights(area_limit_mm2=1300)


def _search(system, layers, *, strategy="search", fixed=("big_core", "big_core")):
    tables = system.tables(layers)
    start = start_design(system, fixed, len(tables.segments))
    reference = system.judge(tables, start).figures
    return Alternation(system, WEIGHTS, reference, start, tables, strategy=strategy)


@pytest.mark.parametrize("strategy", ["search", "greedy_local", "round_robin"])
def test_no_phase_makes_the_design_dearer_and_no_segment_lies_on_an_empty_slot(system, layers, strategy):
    search = _search(system, layers, strategy=strategy)
    before = search.objective
    for epoch in range(2):
        for phase in (
            lambda: search.chips(epoch, steps=3, budget=12),  # noqa: B023
            search.mapping,
            lambda: search.placement(steps=5),
        ):
            done = phase()
            assert search.objective <= before
            assert done.accepted == (search.objective < before)
            before = search.objective
            assert all(search.design.choice[s] < 2 for s in search.design.mapping)


def test_chips_come_close_to_the_best_of_all_choices(system, layers):
    system.slots, system.layout = ChipletSlots(system.types, slots=3), WaferLayout(slots=3)
    search = _search(system, layers)
    for epoch in range(2):
        search.chips(epoch, steps=3, budget=30)
    best = min(
        search._judge(design)[0]
        for choice in itertools.product(range(3), repeat=3)
        if any(c < 2 for c in choice) and (design := search._mapped(choice)) is not None
    )
    assert search.objective <= best + 0.02


def test_a_grid_stays(system, layers):
    system.layout.optimize_layout = False
    search = _search(system, layers)
    places = search.design.pos_mm
    assert search.placement(steps=5).objective is None
    assert search.design.pos_mm == places


def test_what_was_judged_is_kept(system, layers):
    search = _search(system, layers)
    judged = search.chips(0, steps=2, budget=6).judged
    assert judged <= 6
    assert len(search.seen) >= 2


@pytest.mark.parametrize("fixed", [("none",), ("big_core",) * 5])
def test_chips_that_are_not_there_are_refused(system, fixed):
    with pytest.raises(ConfigError):
        start_design(system, fixed, 4)


def test_a_segment_is_split_only_where_all_is_cheaper(system):
    given = {"tokens": 1568, "channels": 768, "batch": 64, "precision": "float16"}
    layers = [
        LayerSpec(name="a", kind="attn", heads=12, **given), LayerSpec(name="m", kind="mlp", mlp_ratio=4.0, **given)
    ]  # fmt: skip
    tables = system.tables(layers)
    start = start_design(system, ("big_core",) * 4, len(tables.segments))
    search = Alternation(system, HwWeights(energy=0.0), system.judge(tables, start).figures, start, tables)
    before = search.objective
    done = search.split()
    assert done.accepted
    assert search.objective < before
    assert len(search.design.mapping) == 1 + len(search.rewire_meta)
    assert float(search.tables.lat_ms[:, 0].sum()) == pytest.approx(float(tables.lat_ms[:, 0].sum()))
    alone = start_design(system, ("big_core",), len(tables.segments))
    lone = Alternation(system, HwWeights(), system.judge(tables, alone).figures, alone, tables)
    assert not lone.split().accepted
    assert lone.tables.lat_ms.shape == tables.lat_ms.shape
