from dataclasses import replace

import numpy as np
import pytest

from sparseflow.hardware.mapping import evaluate
from sparseflow.hardware.mapping.neighbours import Neighbourhood
from sparseflow.hardware.mapping.terms import Terms
from sparseflow.recipes.codesign.mapping_instances import random_problem


def cases(seed):
    # Links far slower in every other problem, so that some are fuller than all slots.
    p = random_problem(seed, segments=9, slots=5)
    p = replace(p, energy_weight=0.01, comm_weight=0.3, link_bytes_per_s=p.link_bytes_per_s / (300 if seed % 2 else 1))
    t = Terms.of(p)
    for at in np.random.default_rng(seed).integers(0, len(t.slots), (3, p.segments)):
        yield p, t, Neighbourhood(t), at


@pytest.mark.parametrize("seed", range(8))
def test_a_state_has_the_sums_of_the_objective(seed):
    for p, t, near, at in cases(seed):
        s, cost = near.state(at), evaluate(p, t.slots[at])
        assert s.objective == pytest.approx(cost.objective, rel=1e-12)
        over = np.maximum(cost.per_slot_mb[t.slots] - t.limit_mb, 0)
        np.testing.assert_allclose(s.excess_mb, over, atol=1e-9)


@pytest.mark.parametrize("seed", range(8))
def test_every_relocation_costs_what_its_mapping_does(seed):
    fullest_links = 0
    for _, t, near, at in cases(seed):
        cost, power, excess = near.relocations(near.state(at))
        for k in range(len(at)):
            for u in range(len(t.slots)):
                moved = at.copy()
                moved[k] = u
                s = near.state(moved)
                fullest_links += s.link.max() > s.busy.max() > 0
                assert cost[k, u] == pytest.approx(s.objective, rel=1e-9)
                assert power[k, u] == pytest.approx((s.busy**4).sum(), rel=1e-6, abs=1e-12)
                assert excess[k, u] == pytest.approx(s.excess_mb.sum(), abs=1e-6)
    assert seed % 2 == 0 or near.terms.load.max() == 0 or fullest_links > 0


@pytest.mark.parametrize("seed", range(8))
def test_every_swap_costs_what_its_mapping_does_but_for_links(seed):
    for _, _, near, at in cases(seed):
        cost, power, excess = near.swaps(near.state(at))
        for j in range(len(at)):
            for k in range(len(at)):
                swapped = at.copy()
                swapped[[j, k]] = swapped[[k, j]]
                s = near.state(swapped)
                expected = s.objective if at[j] == at[k] else s.busy.max() + s.linear
                assert cost[j, k] == pytest.approx(expected, rel=1e-9)
                assert power[j, k] == pytest.approx((s.busy**4).sum(), rel=1e-6, abs=1e-12)
                assert excess[j, k] == pytest.approx(s.excess_mb.sum(), abs=1e-6)
