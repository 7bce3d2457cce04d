import numpy as np

from sparseflow.recipes.codesign.layout_instances import random_dies


def test_the_same_seed_draws_the_same_dies():
    one, again, other = random_dies(3), random_dies(3), random_dies(4)
    np.testing.assert_array_equal(one.traffic_bytes, again.traffic_bytes)
    assert not np.array_equal(one.widths_mm[:4], other.widths_mm[:4])


def test_sizes_powers_and_pipelines_are_as_said():
    for seed in range(20):
        p = random_dies(seed, in_order=seed % 2 == 0)
        area = p.widths_mm * p.heights_mm
        assert 4 <= len(area) <= 16
        assert 100 <= area.min() <= area.max() <= 600
        assert (p.power_w / area).min() >= 0.2
        assert (p.power_w / area).max() <= 0.8
        assert np.diag(p.traffic_bytes).sum() == 0
        if seed % 2 == 0:
            assert (np.diag(p.traffic_bytes, 1) >= 1e6).all()
