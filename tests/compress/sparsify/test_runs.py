"""Runs begin at rest, leave the sample as it was, and leave no trace on the models."""

import torch
from torch import nn

from sparseflow.compress.sparsify.runs import all_quiet, from_rest, has_state, keeps_more, resting_potential, state_left
from sparseflow.nn.neurons import LIFNode


class _Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sn = LIFNode()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.sn(x.mul_(0.5))
        return out


def test_every_call_begins_at_rest_and_with_the_same_sample() -> None:
    model, x = _Writes().eval(), torch.full((3,), 1.9)
    assert has_state(model.sn)
    assert not has_state(model)
    call = from_rest(model, (x,), clone=True)
    for _ in range(3):
        assert torch.equal(call(), torch.zeros(3))
        assert torch.equal(model.sn.v, torch.full((3,), 0.475))
        assert torch.equal(x, torch.full((3,), 1.9))
    from_rest(model, (x,), clone=False)()
    assert torch.equal(x, torch.full((3,), 0.95))


def test_all_models_are_restored() -> None:
    models = [_Writes().train() for _ in range(3)]
    with all_quiet(models):
        assert not any(m.training for m in models)
        for m in models:
            m(torch.ones(2))
    assert all(m.training and m.sn.v == 0.0 for m in models)


class MemoryModule(nn.Module):
    """Named as SpikingJelly's."""


class _Traced(MemoryModule):
    def __init__(self, rest: object, trace: object) -> None:
        super().__init__()
        self._memories = {"v": rest, "trace": trace}
        self._memories_rv = {"v": rest, "trace": None}


def test_what_a_neuron_rests_at_and_holds() -> None:
    assert resting_potential(LIFNode(v_reset=0.25)) == 0.25
    assert resting_potential(nn.ReLU()) is None
    assert resting_potential(_Traced(0.5, None)) == 0.5
    assert resting_potential(_Traced(torch.zeros(1), None)) is None
    assert not keeps_more(_Traced(0.0, None))
    ran = _Traced(0.0, None)
    ran._memories["v"] = torch.ones(2)
    assert not keeps_more(ran)
    assert keeps_more(_Traced(torch.ones(2), None))
    assert keeps_more(_Traced(0.0, torch.zeros(2)))
    assert not keeps_more(LIFNode())
    assert not keeps_more(nn.ReLU())
    assert state_left(LIFNode())
    assert state_left(_Traced(torch.ones(2), None))
    assert not state_left(_Traced(0.0, None))
