import pytest
import torch

from sparseflow.recipes.forecast.mixup import channel_mixup


def batch(b=5, v=4, length=6, f=3):
    g = torch.Generator().manual_seed(0)
    return torch.randn(b, v, length, generator=g), torch.randn(b, v, f, generator=g)


def shares(x, mixed, other):
    """λ of each sample and variate, from the least squares of what was added."""
    added, source = mixed - x, x[:, other]
    return (added * source).sum(-1) / source.square().sum(-1)


@pytest.mark.parametrize("variates", [1, 2, 7])
def test_the_same_mix_is_on_inputs_and_answers(variates):
    x, y = batch(v=variates)
    g = torch.Generator().manual_seed(3)
    a, b = channel_mixup(x, y, 0.7, g)
    g.manual_seed(3)
    other = torch.rand(variates, generator=g).argsort()
    assert sorted(other.tolist()) == list(range(variates))
    share = shares(x, a, other)
    torch.testing.assert_close(share, shares(y, b, other), rtol=1e-4, atol=1e-5)
    # A share for each sample and variate, none for the whole batch.
    assert share.unique().numel() == share.numel()
    torch.testing.assert_close(a, x + share[..., None] * x[:, other], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(b, y + share[..., None] * y[:, other], rtol=1e-4, atol=1e-5)


def test_shares_have_the_deviation_asked_for():
    x = torch.ones(4000, 2, 1)
    a, _ = channel_mixup(x, x, 3.0, torch.Generator().manual_seed(0))
    assert float((a - x).std()) == pytest.approx(3.0, rel=0.03)
    assert float((a - x).mean()) == pytest.approx(0.0, abs=0.15)


def test_nothing_is_mixed_at_zero():
    x, y = batch()
    a, b = channel_mixup(x, y, 0.0)
    assert a is x
    assert b is y
