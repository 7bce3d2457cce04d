import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn.prune.gates import StructureGate


def test_starts_nearly_open():
    gate = StructureGate(3, 5, keep=0.5, init=3.0)
    assert gate().shape == (3, 5)
    torch.testing.assert_close(gate(), torch.full((3, 5), 0.95257413))


def test_hardens_to_exactly_its_share_and_keeps_the_factors():
    torch.manual_seed(0)
    gate = StructureGate(4, 10, keep=0.25, init=0.0)
    gate.logits.data.normal_()
    before = gate().detach()
    stays = gate.harden()
    assert stays.sum(1).tolist() == [2] * 4
    assert torch.equal(gate() != 0, stays)
    torch.testing.assert_close(gate()[stays], before[stays])
    assert bool((before[stays].view(4, 2).amin(1) >= before.masked_fill(stays, 0).amax(1)).all())


def test_closed_parts_stay_closed_and_get_no_gradient():
    gate = StructureGate(1, 3, keep=0.34, init=0.0)
    gate.logits.data[:] = torch.tensor([[1.0, -1.0, 0.0]])
    gate.harden()
    gate().sum().backward()
    assert gate.logits.grad[0, 0] > 0
    assert gate.logits.grad[0, 1:].tolist() == [0.0, 0.0]


def test_temperature_makes_it_decide_and_is_saved():
    gate = StructureGate(1, 2, keep=0.5, init=0.0)
    gate.logits.data[:] = torch.tensor([[0.5, -0.5]])
    gate.set_temperature(0.05)
    assert gate()[0, 0] > 0.99
    assert gate()[0, 1] < 0.01
    again = StructureGate(1, 2, keep=0.5, init=0.0)
    again.load_state_dict(gate.state_dict())
    assert torch.equal(again(), gate())
    with pytest.raises(ConfigError, match="temperature"):
        gate.set_temperature(0.0)


def test_one_part_always_stays():
    assert StructureGate(1, 4, keep=0.01, init=0.0).count == 1
