import itertools

import pytest

from sparseflow.hardware.loss import compute_hw_loss
from sparseflow.hardware.system import Design, System
from sparseflow.recipes.codesign.chiplet_instances import best_of_all, random_layers, random_weights, small_system


def test_networks_and_prices_differ_by_seed():
    assert random_layers(1) == random_layers(1) != random_layers(2)
    assert random_weights(1) == random_weights(1) != random_weights(2)
    assert len(random_layers(0, blocks=5)) == 10


def test_the_best_of_all_is_the_least_that_is_judged():
    system = small_system(System, slots=2)
    tables = system.tables(random_layers(3, blocks=6))
    segments = len(tables.segments)
    weights = random_weights(3)
    grid = tuple(map(tuple, system.layout.grid(*system.sizes((0, 2))).tolist()))
    reference = system.judge(tables, Design(choice=(0, 2), mapping=(0,) * segments, pos_mm=grid)).figures
    costs = []
    for choice in itertools.product(range(3), repeat=2):
        used = [s for s, c in enumerate(choice) if c < 2]
        for mapping in itertools.product(used, repeat=segments):
            grid = tuple(map(tuple, system.layout.grid(*system.sizes(choice)).tolist()))
            figures = system.judge(tables, Design(choice=choice, mapping=mapping, pos_mm=grid)).figures
            costs.append(compute_hw_loss(figures, weights, reference)["total"])
    assert len(costs) == 4 + 4 * 2**segments
    assert best_of_all(system, tables, weights, reference) == pytest.approx(min(costs))
