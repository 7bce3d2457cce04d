"""Samples of other densities, and where two kernels meet."""

import pytest
import torch

from sparseflow.compress.sparsify import drift
from sparseflow.compress.sparsify.drift import BUCKETS, crossing, iid_spikes
from sparseflow.nn.spikes import Spikes, pack, unpack


@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_samples_have_their_density_and_repeat(density: float) -> None:
    like = pack(torch.zeros(4, 5, 37, 9, 11))
    made = iid_spikes(like, density)
    x = unpack(made)
    assert x.shape == (4, 5, 37, 9, 11)
    assert float(x.mean()) == pytest.approx(density, abs=0.01)
    assert torch.equal(made.words, iid_spikes(like, density).words)
    assert torch.equal(pack(x).words, made.words)


def test_samples_of_counts_fill_every_plane() -> None:
    like = Spikes(torch.zeros(6, 5, 5, 4, dtype=torch.int32), 33, (2, 3), False, 2)
    counts = unpack(iid_spikes(like, 0.5))
    assert counts.shape == (2, 3, 33, 5, 5)
    assert counts.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("at_once", [1, 100, 2 * 5 * 5 * 33, 1 << 30])
def test_samples_are_drawn_in_pieces(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(drift, "_AT_ONCE", at_once)
    like = Spikes(torch.full((7, 5, 5, 2), 77, dtype=torch.int32), 33, (7,), False)
    assert float(unpack(iid_spikes(like, 1.0)).min()) == 1.0
    assert 0.4 < float(unpack(iid_spikes(like, 0.5)).mean()) < 0.6
    empty = Spikes(torch.zeros(0, 5, 5, 2, dtype=torch.int32), 33, (0,), False)
    assert iid_spikes(empty, 0.5).words.shape == (0, 5, 5, 2)


def test_samples_leave_the_random_numbers_alone() -> None:
    like = pack(torch.zeros(1, 1, 3, 2, 2))
    before = torch.get_rng_state()
    iid_spikes(like, 0.5)
    assert torch.equal(before, torch.get_rng_state())


def test_buckets_hold_their_densities() -> None:
    low, middle, high = BUCKETS.values()
    assert max(low) < 0.02 < min(middle) < max(middle) < 0.2 < min(high)


def test_where_two_kernels_meet() -> None:
    flat = [(0.01, 1.0, 2.0), (0.1, 1.5, 2.0), (0.4, 1.9, 2.0)]
    assert crossing(flat, 0.01) is None
    assert crossing(flat[:1], 0.01) is None
    assert crossing([*flat, (0.5, 2.2, 2.0)], 0.01) == pytest.approx(0.4 + 0.1 / 3)
    assert crossing([(0.0, 3.0, 2.0), (0.1, 1.0, 2.0), (0.2, 2.0, 2.0)], 0.1) == 0.2
    assert crossing([(0.1, 2.0, 2.0), (0.2, 3.0, 2.0)], 0.1) == 0.1
