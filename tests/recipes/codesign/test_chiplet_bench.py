import pytest
import torch

from sparseflow.hardware.system import System
from sparseflow.recipes.codesign import chiplet_bench


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(chiplet_bench, "_QUICK_SEEDS", 2)
    monkeypatch.setattr(chiplet_bench, "_PROBES", 2)


def test_every_claim_has_a_check_that_holds(small):
    lines = []
    body = chiplet_bench.bench(quick=True, say=lines.append)
    assert body["ok"]
    assert [c["show"] for c in body["checks"]] == ["3", "3", "3"]
    assert len(body["runs"]) == len(lines) == 2
    assert all(1 - 1e-9 <= run["over_best"] <= 1.02 and run["tried"] < 81 for run in body["runs"])


def test_a_severed_gradient_fails(small, monkeypatch):
    whole = System.relaxed
    monkeypatch.setattr(
        System, "relaxed", lambda self, tables, alpha, design: whole(self, tables, alpha.detach() + 0 * alpha, design)
    )
    body = chiplet_bench.bench(quick=True)
    assert not body["checks"][0]["ok"]


def test_a_search_that_does_nothing_fails(small, monkeypatch):
    monkeypatch.setattr(chiplet_bench, "_EPOCHS", 0)
    assert not chiplet_bench.bench(quick=True)["checks"][1]["ok"]


def test_segments_on_empty_slots_are_counted():
    system = chiplet_bench.small_system(chiplet_bench._Watched, slots=2)
    tables = system.tables(chiplet_bench.random_layers(0, blocks=4))
    design = chiplet_bench._random_start(system, len(tables.segments), 0)
    system.judge(tables, design)
    assert (system.on_empty, system.tried) == (0, {design.choice})
    assert torch.is_tensor(tables.lat_ms)
