import numpy as np
import pytest

from sparseflow.hardware.layout.spectral import spectral_mm


def test_a_chain_is_drawn_out_in_its_order():
    dies = 12
    order = np.random.default_rng(4).permutation(dies)
    traffic = np.zeros((dies, dies))
    traffic[order[:-1], order[1:]] = 5.0
    pos = spectral_mm(np.full(dies, 100.0), traffic, np.random.default_rng(0), layouts=1)[0]
    step = np.linalg.norm(pos[order[:-1]] - pos[order[1:]], axis=-1).mean()
    any_two = np.linalg.norm(pos[:, None] - pos, axis=-1).sum() / (dies * (dies - 1))
    assert step < 0.5 * any_two


def test_it_is_as_wide_as_a_disc_of_all_dies():
    rng = np.random.default_rng(1)
    traffic = rng.uniform(0, 1, (20, 20))
    pos = spectral_mm(np.full(20, 100.0), traffic, rng, layouts=5)
    radius = np.sqrt(2000 / np.pi)
    np.testing.assert_allclose(pos.std(axis=1), radius / 2, rtol=0.01)
    np.testing.assert_allclose(pos.mean(axis=1), 0, atol=1e-9)


@pytest.mark.parametrize("dies", [1, 2, 3])
@pytest.mark.parametrize("layouts", [0, 3])
def test_few_dies_and_silent_ones_have_places_of_their_own(dies, layouts):
    pos = spectral_mm(np.full(dies, 50.0), np.zeros((dies, dies)), np.random.default_rng(0), layouts=layouts)
    assert pos.shape == (layouts, dies, 2)
    assert np.isfinite(pos).all()
    if layouts and dies > 1:
        assert np.linalg.norm(pos[:, 0] - pos[:, 1], axis=-1).min() > 0


def test_traffic_is_not_changed():
    traffic = np.ones((3, 3))
    spectral_mm(np.ones(3), traffic, np.random.default_rng(0), layouts=1)
    np.testing.assert_array_equal(traffic, np.ones((3, 3)))
