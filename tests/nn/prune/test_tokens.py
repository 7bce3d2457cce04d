import math

import torch

from sparseflow.nn.prune.tokens import Tokens, merge_tokens, take_tokens


def test_take_carries_everything():
    x, score = torch.randn(2, 5, 3), torch.randn(2, 5)
    tokens = Tokens(x=x, score=score, log_weight=-score.abs())
    index = torch.tensor([[0, 3], [1, 4]])
    got = take_tokens(tokens, index)
    assert torch.equal(got.x[1], x[1, [1, 4]])
    assert torch.equal(got.score[0], score[0, [0, 3]])
    assert torch.equal(got.log_weight[0], -score[0, [0, 3]].abs())
    assert got.position.tolist() == [[0, 3], [1, 4]]
    again = take_tokens(got, torch.tensor([[1], [0]]))
    assert again.position.tolist() == [[3], [1]]


def naive_merge(x, metric, r):
    """One step of token merging for one sample, all counts 1: {position: mean of x}."""
    first, second = list(range(0, len(x), 2)), list(range(1, len(x), 2))

    def cosine(i, j):
        return float(metric[i] @ metric[j] / (metric[i].norm() * metric[j].norm()))

    edges = sorted((-max(cosine(i, j) for j in second), i) for i in first)[:r]
    groups = {j: [j] for j in second}
    for _, i in edges:
        groups[max(second, key=lambda j: cosine(i, j))].append(i)
    stay = {i: [i] for i in first if i not in [e[1] for e in edges]}
    return {place: (x[members].mean(0), len(members)) for place, members in {**stay, **groups}.items()}


def test_merge_is_the_naive_loop():
    torch.manual_seed(0)
    x, metric = torch.randn(3, 11, 4), torch.randn(3, 11, 5)
    got = merge_tokens(Tokens(x=x), metric, 8)
    assert got.x.shape == (3, 8, 4)
    for b in range(3):
        want = naive_merge(x[b], metric[b], 3)
        assert sorted(got.position[b].tolist()) == sorted(want)
        for row, place in enumerate(got.position[b].tolist()):
            mean, count = want[place]
            torch.testing.assert_close(got.x[b, row], mean)
            assert math.isclose(float(got.log_weight[b, row].exp()), count, rel_tol=1e-5)


def test_merging_keeps_the_weighted_mean_down_to_one_token():
    torch.manual_seed(1)
    x = torch.randn(2, 13, 4)
    got = merge_tokens(Tokens(x=x), torch.randn(2, 13, 3), 1)
    torch.testing.assert_close(got.x[:, 0], x.mean(1))
    torch.testing.assert_close(got.log_weight.exp(), torch.full((2, 1), 13.0))


def test_equal_tokens_are_merged_first():
    metric = torch.eye(6).repeat(1, 1, 1)
    metric[0, 5] = metric[0, 2]
    x = torch.arange(6.0).view(1, 6, 1)
    got = merge_tokens(Tokens(x=x), metric, 5)
    assert sorted(got.x.flatten().tolist()) == [0.0, 1.0, 3.0, 3.5, 4.0]
