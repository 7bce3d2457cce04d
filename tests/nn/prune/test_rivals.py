import itertools
import math

import pytest
import torch

from sparseflow.nn.prune.rivals import attention_score, random_score, uniform_places


@pytest.mark.parametrize(("length", "k"), [(8, 8), (8, 3), (1568, 392), (7, 1)])
def test_uniform_places_are_spread_evenly(length, k):
    places = uniform_places(length, k).tolist()
    assert len(set(places)) == k
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] < length
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_random_follows_the_seed():
    x = torch.zeros(2, 5, 3)
    torch.manual_seed(3)
    first = random_score(x)
    assert first.shape == (2, 5)
    assert not torch.equal(first, random_score(x))
    torch.manual_seed(3)
    assert torch.equal(first, random_score(x))


@pytest.mark.parametrize("has_class", [True, False])
@pytest.mark.parametrize("weighed", [True, False])
def test_attention_is_the_naive_loop(has_class, weighed):
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 6, 4).double().float(), torch.randn(2, 3, 6, 4)
    length = 5 if has_class else 6
    log_weight = torch.randn(2, length) if weighed else None
    got = attention_score(q, k, log_weight, has_class)
    assert got.shape == (2, length)
    for b in range(2):
        want = torch.zeros(6)
        for h in range(3):
            query = q[b, h, 0] if has_class else q[b, h].mean(0)
            logits = torch.stack([query @ k[b, h, i] for i in range(6)]) / math.sqrt(4)
            if log_weight is not None:
                logits[6 - length :] += log_weight[b]
            want += torch.softmax(logits, 0) / 3
        torch.testing.assert_close(got[b], want[6 - length :])
