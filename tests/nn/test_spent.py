"""A potential that nobody computed cannot be used by mistake."""

import copy
import pickle

import pytest
import torch

from sparseflow.errors import ConfigError
from sparseflow.nn._spent import SPENT
from sparseflow.nn.neurons import IFNode, LIFNode


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("kind", [IFNode, LIFNode])
def test_a_neuron_that_holds_it_refuses_to_run_until_reset(kind, step_mode: str) -> None:
    neuron = kind(step_mode=step_mode)
    neuron.v = SPENT
    with pytest.raises((ConfigError, TypeError)):
        neuron(torch.ones(2, 3, 4))
    neuron.reset()
    neuron(torch.ones(2, 3, 4))


def test_arithmetic_says_what_to_do() -> None:
    for use in (lambda: SPENT + 1.0, lambda: torch.ones(2) - SPENT, lambda: float(SPENT), lambda: SPENT * 2):
        with pytest.raises(ConfigError, match="reset_net"):
            use()


def test_there_is_one() -> None:
    assert copy.deepcopy(SPENT) is SPENT
    assert pickle.loads(pickle.dumps(SPENT)) is SPENT
    assert "reset" in repr(SPENT)
