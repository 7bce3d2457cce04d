import math

import pytest

from sparseflow.nn.prune import PruneConfig, naive


def test_what_is_known_by_hand():
    assert naive.entropy([0.5, 0.5]) == pytest.approx(math.log(2), abs=1e-5)
    assert naive.softmax([0.0, math.log(3)], 1.0, False) == pytest.approx([0.25, 0.75])
    assert sum(naive.softmax([5.0, -1.0, 2.0], 0.5, True)) == pytest.approx(1.0)
    assert naive.minmax([1.0, 3.0]) == pytest.approx([0.0, 1.0], abs=1e-6)
    assert naive.windows(5, 4) == [range(0, 2), range(2, 4), range(4, 5)]
    assert naive.spread([0.0, 1.0], 4) == [0.0, 0.25, 0.75, 1.0]
    assert naive.regions((2, 2), 4) == [0, 1, 2, 3]


def test_what_moves_scores_above_what_stands():
    still, a, b = [1.0, 0.0], [3.0, 0.0], [0.0, 3.0]
    config = PruneConfig(patch_grid_h=1, patch_grid_w=2, num_regions=1, score="motion", region_weight=0.0)
    rows = naive.score([[still, a], [still, b], [still, a], [still, b]], config, (1, 2))
    assert [row[0] for row in rows] == [0.0] * 4
    assert all(row[1] > 0.5 for row in rows)
