import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.hardware.chiplet import ChipletSlots, load_library, temperature

TYPES = load_library(names=["big_core", "small_core"])


def slots_with(logits, **more):
    slots = ChipletSlots(TYPES, slots=len(logits), **more)
    with torch.no_grad():
        slots.logits.copy_(torch.tensor(logits))
    return slots


def test_the_temperature_falls_to_a_half():
    assert [temperature(e) for e in (0, 1, 22)] == pytest.approx([5.0, 4.5, 0.5])


def test_rows_sum_to_one_and_a_hard_choice_is_one_column():
    slots = slots_with([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])
    noise = slots.noise(torch.Generator().manual_seed(0))
    for hard in (False, True):
        alpha = slots.alpha(noise=noise, tau=0.7, hard=hard)
        torch.testing.assert_close(alpha.sum(1), torch.ones(2, dtype=torch.float64))
    assert set(alpha.detach().flatten().tolist()) <= {0.0, 1.0}


def test_evaluation_knows_no_noise():
    slots = slots_with([[0.0, 1.0, 2.0]]).eval()
    noise = slots.noise(torch.Generator().manual_seed(0))
    torch.testing.assert_close(slots.alpha(noise=noise, tau=0.1), torch.softmax(slots.logits, -1))


def test_the_same_generator_draws_the_same_noise():
    slots = ChipletSlots(TYPES, slots=3)
    first, again = (slots.noise(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, slots.noise(torch.Generator().manual_seed(6)))


def test_noise_is_gumbel():
    slots = ChipletSlots(TYPES, slots=20_000)
    noise = slots.noise(torch.Generator().manual_seed(1))
    assert noise.mean().item() == pytest.approx(0.5772, abs=0.02)
    assert noise.std().item() == pytest.approx(1.2825, abs=0.02)


def test_an_average_of_costs_is_not_the_cost_of_an_average_chip():
    slots = slots_with([[0.0, 0.0, -50.0]]).eval()
    flops = torch.tensor([6e12], dtype=torch.float64)
    rates = torch.tensor([t.peak_flops_per_s for t in TYPES], dtype=torch.float64)
    alpha = slots.alpha()
    latency_ms = slots.expected(1e3 * flops[:, None] / rates, alpha)
    assert latency_ms.item() == pytest.approx((60 + 200) / 2)
    averaged = 1e3 * flops / slots.eff_specs(alpha)["peak_flops_per_s"]
    assert averaged.item() == pytest.approx(92.3, abs=0.1)


def test_a_slot_never_grows_cheaper_as_it_empties():
    slots = ChipletSlots(TYPES, slots=1)
    cost = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    alpha = slots.alpha()
    slots.expected(cost, alpha).sum().backward()
    assert slots.logits.grad[0, -1] > 0
    assert slots.logits.grad[0, 0] < slots.logits.grad[0, 1]


def test_a_hard_choice_costs_what_its_type_costs():
    slots = slots_with([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    cost = torch.tensor([[1.0, 3.0], [2.0, 8.0]], dtype=torch.float64)
    torch.testing.assert_close(slots.expected(cost, slots.alpha(hard=True)), cost)


def test_an_empty_slot_has_nothing_and_is_not_usable():
    slots = ChipletSlots(TYPES, slots=3)
    slots.set_choice([2, 0, 1])
    assert slots.usable().tolist() == [False, True, True]
    assert slots.choice() == (2, 0, 1)
    alpha = slots.alpha(hard=True)
    assert all(spec[0].item() == 0 for spec in slots.eff_specs(alpha).values())
    assert slots.chip_loss(alpha).item() == pytest.approx(2)


def test_the_gradient_of_a_soft_choice_is_that_of_finite_differences():
    slots = ChipletSlots(TYPES, slots=3)
    noise = slots.noise(torch.Generator().manual_seed(2))
    cost = torch.rand(4, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(logits):
        alpha = torch.func.functional_call(_Alpha(slots), {"slots.logits": logits}, (noise,))
        return slots.expected(cost, alpha).square().sum() + slots.chip_loss(alpha)

    assert torch.autograd.gradcheck(loss, (torch.rand(3, 3, dtype=torch.float64, requires_grad=True),))


class _Alpha(torch.nn.Module):
    def __init__(self, slots):
        super().__init__()
        self.slots = slots

    def forward(self, noise):
        return self.slots.alpha(noise=noise, tau=0.8)


def test_faults_are_named():
    with pytest.raises(ConfigError, match="0 slots"):
        ChipletSlots(TYPES, slots=0)
    with pytest.raises(ConfigError, match="0 types"):
        ChipletSlots((), slots=2)
    with pytest.raises(ConfigError, match="empty_factor"):
        ChipletSlots(TYPES, empty_factor=0.5)
    for choice in ([0], [0, 3], [0, -1]):
        with pytest.raises(ConfigError, match="choice"):
            ChipletSlots(TYPES, slots=2).set_choice(choice)
