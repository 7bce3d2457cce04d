import math

import pytest
import torch

from sparseflow.search.policy import Episodes, Policy, discounted, leave_one_out, log_probs


def by_hand(row, low, high, at):
    """Log-probability and entropy of a masked choice, one number at a time."""
    weights = [math.exp(x) for x in row[low : high + 1]]
    shares = [w / sum(weights) for w in weights]
    return math.log(shares[at - low]), -sum(p * math.log(p) for p in shares)


def test_masked_choices_are_as_likely_as_by_hand():
    torch.manual_seed(1)
    logits = torch.randn(3, 9) * 3
    low, high = torch.tensor([[0, 2, 5], [8, 0, 1]]), torch.tensor([[8, 4, 5], [8, 3, 7]])
    actions = torch.tensor([[3, 4, 5], [8, 0, 1]])
    alive = torch.tensor([[True, True, True], [True, False, True]])
    batch = Episodes(
        actions=actions, alive=alive, low=low, high=high, log_probs=torch.zeros(2, 3), rewards=torch.zeros(2)
    )
    logs, entropy = log_probs(logits, batch)
    for k in range(2):
        for f in range(3):
            span = (int(low[k, f]), int(high[k, f]), int(actions[k, f]))
            expected = by_hand(logits[f].tolist(), *span) if alive[k, f] else (0.0, 0.0)
            assert (float(logs[k, f]), float(entropy[k, f])) == pytest.approx(expected, abs=1e-5)


def test_gradients_stay_finite_where_one_choice_is_left():
    logits = torch.randn(1, 5, requires_grad=True)
    one = torch.tensor([[2]])
    batch = Episodes(actions=one, alive=one > 0, low=one, high=one, log_probs=torch.zeros(1, 1), rewards=torch.zeros(1))
    logs, entropy = log_probs(logits, batch)
    (logs.sum() + entropy.sum()).backward()
    assert logits.grad.abs().max() == 0


def test_leave_one_out_is_the_loop_it_stands_for():
    rewards = torch.tensor([-3.0, 0.5, 2.0, 2.0, -8.0], dtype=torch.float64)
    plain = [float(r) - (float(rewards.sum()) - float(r)) / 4 for r in rewards]
    spread = math.sqrt(sum(a * a for a in plain) / 5)
    assert leave_one_out(rewards).tolist() == pytest.approx([a / spread for a in plain])


def test_equal_rewards_teach_nothing():
    assert leave_one_out(torch.full((4,), 7.0, dtype=torch.float64)).tolist() == [0.0] * 4


def test_discounted_returns_are_the_loop_they_stand_for():
    rewards, layers, gamma = [-2.0, -5.0, -1.0], 4, 0.99
    plain = [sum((r / layers) * gamma ** (j - i) for j in range(i, layers)) for r in rewards for i in range(layers)]
    mean = sum(plain) / len(plain)
    spread = math.sqrt(sum((g - mean) ** 2 for g in plain) / len(plain))
    got = discounted(torch.tensor(rewards, dtype=torch.float64), layers, gamma).flatten().tolist()
    assert got == pytest.approx([(g - mean) / (spread + 1e-8) for g in plain])
    assert torch.isfinite(discounted(torch.ones(3), 1, 1.0)).all()


def test_the_network_has_the_shape_of_its_source_and_its_own_seed():
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    policy = Policy(states=4, heads=4, codes=256, seed=3)
    assert torch.equal(torch.rand(1), before)
    logits, values = policy(torch.rand(7, 4))
    assert logits.shape == (7, 4, 256)
    assert values.shape == (7,)
    shapes = [tuple(p.shape) for n, p in policy.named_parameters() if n.endswith("weight")]
    assert shapes == [(64, 4), (64, 64), *[(64, 64), (256, 64)] * 4, (64, 64), (1, 64)]
    again = Policy(states=4, heads=4, codes=256, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), again.parameters(), strict=True))
