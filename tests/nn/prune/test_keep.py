import pytest
import torch

from sparseflow.nn.prune.keep import hard_mask, kept_count, log_soft_gate, priority, threshold, top_tokens


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 0.29, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("total", [1, 7, 100, 1568])
def test_exactly_k_are_kept_whatever_the_scores(share, total):
    k = kept_count(share, total)
    assert 1 <= k <= total
    assert k == max(1, int(share * total + 1e-6))
    for score in (torch.randn(3, total), torch.zeros(3, total), torch.randint(0, 2, (3, total)).float()):
        index = top_tokens(score, k)
        assert index.shape == (3, k)
        assert bool((index[:, 1:] > index[:, :-1]).all())
        mask = hard_mask(score, k)
        assert mask.sum(1).tolist() == [k] * 3
        kept, left = score[mask.bool()].view(3, -1), score.masked_fill(mask.bool(), -torch.inf)
        assert bool((kept.amin(1) >= left.amax(1)).all())


def test_of_equals_the_earlier_stay():
    score = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])
    assert top_tokens(score, 3).tolist() == [[0, 1, 4]]
    assert top_tokens(score, 3, ascending=False).tolist() == [[1, 4, 0]]


@pytest.mark.parametrize("least", [0, 1, 3, 9])
def test_no_time_loses_its_last_tokens(least):
    torch.manual_seed(0)
    score = torch.randn(2, 4, 6) + torch.tensor([5.0, 0.0, 0.0, -5.0]).view(1, 4, 1)
    order = priority(score, least)
    k = 12
    mask = hard_mask(order.flatten(1), k).view(2, 4, 6)
    floor = min(least, 6)
    if 4 * floor <= k:
        assert bool((mask.sum(2) >= floor).all())
    assert mask.sum((1, 2)).tolist() == [k, k]
    # Beyond what is guaranteed, the largest stay.
    for b in range(2):
        sure = torch.zeros(4, 6)
        for t in range(4):
            sure[t, score[b, t].topk(floor).indices] = 1
        rest = (sure == 0) & (mask[b] == 1)
        out = mask[b] == 0
        if bool(rest.any()) and bool(out.any()):
            assert score[b][rest].min() >= score[b][out].max()


def test_stages_are_nested():
    torch.manual_seed(1)
    order = priority(torch.randn(1, 3, 8), 2).flatten(1)
    many, few = top_tokens(order, 15)[0].tolist(), top_tokens(order, 7)[0].tolist()
    assert set(few) < set(many)


def test_threshold_is_the_kth_largest():
    score = torch.randn(2, 9)
    line = score.sort(descending=True).values
    for k in range(1, 10):
        torch.testing.assert_close(threshold(score, k)[:, 0], line[:, k - 1])
        torch.testing.assert_close(threshold(score, torch.tensor(float(k)))[:, 0], line[:, k - 1])
    torch.testing.assert_close(threshold(score, 2.25)[:, 0], 0.75 * line[:, 1] + 0.25 * line[:, 2])
    torch.testing.assert_close(threshold(score, torch.tensor(2.25))[:, 0], 0.75 * line[:, 1] + 0.25 * line[:, 2])


def test_threshold_falls_with_k():
    k = torch.tensor(3.5, requires_grad=True)
    score = torch.tensor([[5.0, 4.0, 3.0, 1.0]])
    threshold(score, k).sum().backward()
    assert k.grad.item() == pytest.approx(-2.0)


def test_soft_gate():
    score = torch.tensor([[0.3, 0.5, 0.1]], requires_grad=True)
    gate = log_soft_gate(score, threshold(score.detach(), 2), 0.1).exp()
    torch.testing.assert_close(gate[0], torch.sigmoid(torch.tensor([0.0, 2.0, -2.0])))
    far = log_soft_gate(torch.tensor([[-100.0]]), torch.tensor([[100.0]]), 0.1)
    assert bool(far.isfinite().all())
