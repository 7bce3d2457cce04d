import numpy as np
import pytest

from sparseflow.hardware.mapping import MappingProblem, evaluate
from sparseflow.hardware.mapping.terms import Terms
from sparseflow.recipes.codesign.mapping_instances import random_problem, small_problem


def of_terms(t, at):
    load, link = np.zeros(len(t.slots)), np.zeros(t.wire.shape[1:])
    total = 0.0
    for k, s in enumerate(at):
        load[s] += t.load[k, s]
        total += t.own[k, s]
    for k in range(len(at) - 1):
        link[at[k], at[k + 1]] += t.wire[k, at[k], at[k + 1]]
        total += t.pair[k, at[k], at[k + 1]]
    return max(load.max(), link.max()) + total


@pytest.mark.parametrize("seed", range(24))
def test_terms_add_up_to_the_objective(seed):
    p = random_problem(seed) if seed % 2 else small_problem(seed)
    t = Terms.of(p)
    for at in np.random.default_rng(seed).integers(0, len(t.slots), (20, p.segments)):
        assert of_terms(t, at) == pytest.approx(evaluate(p, t.slots[at]).objective, rel=1e-12)


def test_slots_without_a_die_are_left_out():
    p = MappingProblem(lat_ms=np.ones((2, 4)), usable=np.array([False, True, False, True]))
    t = Terms.of(p)
    assert t.slots.tolist() == [1, 3]
    assert t.load.shape == (2, 2)


def test_a_segment_fits_where_its_weights_and_activations_do():
    p = MappingProblem(
        lat_ms=np.ones((2, 2)),
        weight_mb=np.array([3.0, 1.0]),
        activation_mb=np.array([1.0, 0.5]),
        limit_mb=np.array([4.0, 3.9]),
    )
    assert Terms.of(p).fits().tolist() == [[True, False], [True, True]]
