import pytest
import torch

from sparseflow.ops.conv2d_spike.check import draw
from sparseflow.recipes.spike_bench.gpu import random_layers
from sparseflow.recipes.spike_bench.gpu.layer_cases import Tally
from sparseflow.recipes.spike_bench.gpu.random_layers import STRUCTURES, Deck, draw_layer, run_task
from sparseflow.recipes.spike_bench.gpu.settings import Budget
from sparseflow.recipes.spike_bench.gpu.tasks import Task, share_out

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(12))
def test_layers_of_one_structure_share_what_is_compiled_and_nothing_else(seed):
    a, b = draw_layer(seed), draw_layer(seed + STRUCTURES)
    base = draw(seed)
    for case in (a, b):
        assert (case.channels, case.out_channels, case.kernel_size) == (
            base.channels, base.out_channels, base.kernel_size,
        )  # fmt: skip
        assert (case.geometry, case.steps, case.state, case.params.kind) == (
            base.geometry, base.steps, base.state, base.params.kind,
        )  # fmt: skip
        assert (case.params.v_reset is None) is (base.params.v_reset is None)
    assert (a.seed % 5, a.seed) == (b.seed % 5, seed)
    assert (a.size, a.density, a.samples, a.params) != (b.size, b.density, b.samples, b.params)


def test_some_maps_are_large_and_none_is_smaller_than_its_kernel():
    cases = [draw_layer(seed) for seed in range(80)]
    pixels = [case.samples * case.size[0] * case.size[1] for case in cases]
    assert sum(p > 6000 for p in pixels) >= 8
    for case in cases:
        assert min(case.geometry.output(case.size, case.kernel_size)) >= 1


def test_a_deck_goes_on_with_the_structures_that_a_kernel_takes():
    deck = Deck([("picky", "fp16")], wanted=10, structures=5)
    seeds = []
    while (task := deck.take()) is not None:
        seeds += task.seeds
        picky = task.seeds[0] % STRUCTURES in (0, 4)
        deck.put(task, Tally(ran=len(task.seeds)) if picky else Tally(refused=len(task.seeds)), {})
    assert deck.totals["picky", "fp16"].ran >= 10
    assert len(set(seeds)) == len(seeds)
    assert all(seed % STRUCTURES in (0, 4) for seed in seeds[10:])
    refuses = Deck([("none", "fp16")], wanted=10, structures=5)
    while (task := refuses.take()) is not None:
        refuses.put(task, Tally(refused=2), {})
    assert refuses.totals["none", "fp16"].ran == 0


def test_random_layers_run_here_and_what_breaks_is_told(monkeypatch):
    deck = Deck([("dense", "fp16"), ("dense", "exact")], wanted=5, structures=5)
    share_out(deck, run_task, Budget(60.0), CPU, 0)
    assert [t.ran for t in deck.totals.values()] == [5, 5]
    assert all(t.clear_wrong == t.unsteady == 0 for t in deck.totals.values())
    assert deck.errors == {}

    def broken(*_):
        raise RuntimeError("illegal memory access")

    monkeypatch.setattr(random_layers, "random_case", broken)
    tally, errors = run_task(Task(kernel="dense", precision="fp16", seeds=(3,)), CPU)
    assert tally.ran == 0
    assert "illegal" in errors["random 3, dense, fp16"]


def test_without_time_nothing_runs():
    deck = Deck([("dense", "fp16")], wanted=5, structures=5)
    share_out(deck, run_task, Budget(0.0), CPU, 0)
    assert deck.totals["dense", "fp16"].ran == 0
