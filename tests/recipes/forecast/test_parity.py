import pytest
import torch

from sparseflow.nn.models.cmamba import CMamba, ModelArgs
from sparseflow.recipes.forecast import parity as module
from sparseflow.recipes.forecast.parity import SERIES, parity, published_state
from tests.nn.models.cmamba import plain

FEW = (1, 7, 33)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(module, "SERIES", FEW)


def test_twenty_networks_from_one_series_to_those_of_electricity():
    assert (len(SERIES), SERIES[0], SERIES[-1]) == (20, 1, 321)


def test_forecasts_are_those_of_the_equations(tmp_path, few):
    checks, rows = parity(tmp_path)
    assert [c.ok for c in checks] == [True, True], checks
    assert [row["series"] for row in rows] == list(FEW)
    assert all(row["difference"] > 0 for row in rows)


def test_another_network_is_found_out(tmp_path, few, monkeypatch):
    forward = CMamba.forward
    monkeypatch.setattr(CMamba, "forward", lambda self, x: forward(self, x) + 2e-5)
    assert [c.ok for c in parity(tmp_path)[0]] == [False, False]


def test_the_published_table_of_positions():
    args = ModelArgs.paper(2, d_model=12)
    pe = published_state(args, 0)["patch_embedding.position_embedding.pe"]
    assert pe.shape == (1, 5000, 12)
    torch.testing.assert_close(pe[0, :20], plain.positions(20, 12, pe), rtol=0, atol=1e-5)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generator():
    before = torch.get_rng_state()
    a, b, c = (published_state(ModelArgs.paper(2, d_model=8, d_state=2), seed) for seed in (3, 3, 4))
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not all(torch.equal(a[k], c[k]) for k in a)
    assert torch.equal(torch.get_rng_state(), before)
