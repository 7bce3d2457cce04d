import itertools

import numpy as np
import pytest

from sparseflow.hardware.mapping.neighbours import Neighbourhood
from sparseflow.hardware.mapping.regroup import regroup, room
from sparseflow.hardware.mapping.terms import Terms
from sparseflow.recipes.codesign.mapping_instances import random_problem


def without_links(s):
    return s.busy.max() + s.linear


@pytest.mark.parametrize("seed", range(12))
def test_the_best_of_all_ways_to_share_out(seed):
    r = np.random.default_rng(seed)
    t = Terms.of(random_problem(seed, segments=8, slots=5))
    near, u = Neighbourhood(t), len(t.slots)
    at = r.integers(0, u, 8)
    columns = r.permutation(u)[: 2 + seed % 2]
    who = np.flatnonzero(np.isin(at, columns))[: room(len(columns))]
    if not len(who):
        pytest.skip("no segment on these slots")
    found = regroup(t, near.state(at), columns, who)
    best = np.inf
    for choice in itertools.product(columns, repeat=len(who)):
        other = at.copy()
        other[who] = choice
        s = near.state(other)
        if not s.excess_mb[columns].any():
            best = min(best, without_links(s))
    if found is None:
        assert best == np.inf
        return
    stay = np.setdiff1d(np.arange(8), who)
    assert (found[stay] == at[stay]).all()
    assert np.isin(found[who], columns).all()
    assert without_links(near.state(found)) == pytest.approx(best, rel=1e-12)


def test_of_equals_the_evenest_is_taken():
    t = Terms.of(random_problem(0, segments=6, slots=4))
    # All segments take 1 ms anywhere, and a segment that is not shared out 10.
    t = type(t)(
        slots=np.arange(3),
        load=np.array([[10.0] * 3] + [[1.0] * 3] * 4),
        own=np.zeros((5, 3)),
        pair=np.zeros((4, 3, 3)),
        wire=np.zeros((4, 3, 3)),
        weight_mb=np.zeros(5),
        activation_mb=np.zeros(5),
        limit_mb=np.full(3, np.inf),
    )
    s = Neighbourhood(t).state(np.array([0, 1, 1, 1, 1]))
    found = regroup(t, s, np.array([1, 2]), np.array([1, 2, 3, 4]))
    assert np.bincount(found).tolist() == [1, 2, 2]
