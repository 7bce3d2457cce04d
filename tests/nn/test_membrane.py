"""A membrane reads and writes its neuron's state, or leaves it alone."""

import pytest
import torch

from sparseflow.compress.sparsify.fuse import neuron_constants
from sparseflow.errors import ConfigError
from sparseflow.nn._membrane import Membrane
from sparseflow.nn.neurons import LIFNode, ParametricLIFNode


def test_reads_and_writes_the_state() -> None:
    neuron = LIFNode(step_mode="m")
    membrane = Membrane(neuron, neuron_constants)
    assert membrane.steps_in_lead
    assert membrane.read((2, 3)) is None
    membrane.write(torch.ones(2, 3, 1, 1), True)
    assert neuron.v.shape == (2, 3)
    assert membrane.read((2, 3, 1, 1)).shape == (2, 3, 1, 1)
    neuron.v = 0.5
    assert torch.equal(membrane.read((2,)), torch.full((2,), 0.5))


def test_a_state_of_another_batch_says_what_to_do() -> None:
    neuron = LIFNode(step_mode="m")
    neuron.v = torch.ones(2, 3)
    with pytest.raises(ConfigError, match="call reset_net"):
        Membrane(neuron, neuron_constants).read((4, 3, 1, 1))


def test_keeps_nothing_if_told_so() -> None:
    neuron = LIFNode(step_mode="m")
    membrane = Membrane(neuron, neuron_constants, keep=False)
    neuron.v = torch.ones(2)
    assert membrane.read((2,)) is None
    membrane.write(torch.zeros(2), False)
    assert torch.equal(neuron.v, torch.ones(2))


def test_reads_a_learnt_constant_again() -> None:
    neuron = ParametricLIFNode(init_tau=2.0, step_mode="m")
    membrane = Membrane(neuron, neuron_constants)
    membrane.refresh()
    with torch.no_grad():
        neuron.w.zero_().add_(1.0)
    assert abs(membrane.refresh().tau - (1 + 2.718281828**-1)) < 1e-6
