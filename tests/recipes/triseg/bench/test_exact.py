"""Brute force over configurations agrees with sums taken by hand."""

import torch

from sparseflow.compress.approximate import optimal_codes, segment_error
from sparseflow.recipes.triseg.bench.exact import brute_force, random_histograms


def test_brute_force_finds_what_the_programme_finds() -> None:
    counts = random_histograms(12, 9, seed=3)
    best, tried = brute_force(counts, 9)
    found = optimal_codes(counts, tmax=[9] * 12)
    assert torch.equal(segment_error(counts, found.codes), best)
    # t1 < v1 <= t2 < v2 <= 9, t1 from 0.
    assert tried == sum(1 for a in range(10) for b in range(a + 1, 10) for c in range(b, 10) for d in range(c + 1, 10))


def test_a_worse_configuration_is_told_apart() -> None:
    counts = random_histograms(4, 9, seed=4)
    best, _ = brute_force(counts, 9)
    worse = torch.tensor([[0, 1, 1, 2, 9]]).expand(4, 1, 5)
    assert (segment_error(counts[:, None].flatten(0, 1), worse[:, 0]) >= best).all()
    assert (counts.sum(1) > 0).all()
