"""A trace along a sample holds for every batch where sizes grow with it, and for the sample's shapes else."""

import operator

import pytest
import torch
from torch import nn

from sparseflow.trace import capture
from sparseflow.trace._batches import batch_trace
from sparseflow.trace._state import quiet
from tests.spiking_nets import Branches


class _Folds(nn.Module):
    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.linear = how, nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch = x.shape[0]
        if self.how == "constant":
            return self.linear(x) + torch.arange(float(batch))[:, None]
        if self.how == "branch":
            return self.linear(x) * (2.0 if batch == 2 else 3.0)
        if self.how == "loop":
            return torch.stack([self.linear(x[i]) for i in range(batch)])
        if self.how == "mean":
            return self.linear(x).sum(0) / batch
        y = self.linear(x)[None].expand(3, batch, 4)
        return y.reshape(3 * batch, 2, 2)[: 2 * batch].flatten(1)


@torch.no_grad()
@pytest.mark.parametrize("how", ["multiples", "mean"])
def test_sizes_that_grow_with_the_batch_are_read_from_it(how: str) -> None:
    model = _Folds(how).eval()
    traced, shapes = batch_trace(model, (torch.randn(2, 4),), {})
    assert shapes == ((None, 4),)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 4)
        assert torch.equal(traced(x), model(x))
    if how == "multiples":
        factors = [n.args[1] for n in traced.graph.nodes if n.target is operator.mul]
        assert sorted(factors) == [2, 3]


@torch.no_grad()
@pytest.mark.parametrize("how", ["constant", "branch", "loop"])
def test_what_does_more_with_the_batch_holds_for_the_sample(how: str) -> None:
    model, x = _Folds(how).eval(), torch.randn(2, 4)
    traced, shapes = batch_trace(model, (x,), {})
    assert shapes == ((2, 4),)
    assert torch.equal(traced(x), model(x))


@torch.no_grad()
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (3, 2, 3, 5, 4)])
def test_images_and_sequences(shape: tuple[int, ...]) -> None:
    model = Branches().eval()
    found = capture(model, torch.randn(shape))
    assert found.graph_module is not None
    assert found.graph_shapes == ((None, *shape[1:]) if len(shape) == 4 else (3, None, 3, 5, 4),)
    for batch in (1, 4):
        x = torch.randn(batch, *shape[1:]) if len(shape) == 4 else torch.randn(3, batch, 3, 5, 4)
        with quiet(model):
            want = model(x)
        with quiet(model):
            assert torch.equal(found.graph_module(x), want)


@torch.no_grad()
def test_samples_without_one_batch_hold_as_they_are() -> None:
    class Two(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x if x.ndim == 2 else x[0]) + y.sum()

    two = Two()
    assert batch_trace(two, (torch.ones(2, 3), torch.ones(3, 2)), {})[1] == ((2, 3), (3, 2))
    assert batch_trace(two, (torch.ones(2, 3),), {"y": torch.ones(4)})[1] == ((2, 3), (4,))
    assert batch_trace(two, (torch.ones(0, 3),), {"y": torch.ones(0, 3)})[1] == ((0, 3), (0, 3))
    traced, shapes = batch_trace(two, (), {"x": torch.ones(2, 3), "y": torch.ones(2, 3)})
    assert shapes == ((None, 3), (None, 3))
    assert torch.equal(traced(torch.ones(5, 3), torch.ones(5, 3)), torch.full((5, 3), 16.0))
