"""Capture as a graph to walk."""

import pytest
import torch
from torch import nn

from sparseflow.errors import CaptureError
from sparseflow.nn.neurons import IFNode
from sparseflow.trace import Capture, Node, capture


def test_walk_forth_and_back() -> None:
    found = capture(nn.Sequential(nn.Linear(3, 3), IFNode(), nn.Linear(3, 2)), torch.rand(1, 3))
    assert isinstance(found, Capture)
    for node in found:
        assert isinstance(node, Node)
        assert all(node in found.consumers(p) for p in found.producers(node))
    assert [n.name for n in found.sources] == ["1"]
    assert found.consumers(found.node("1")) == (found.node("2"),)


def test_an_unknown_node_is_named() -> None:
    found = capture(nn.Linear(3, 3), torch.rand(1, 3))
    with pytest.raises(CaptureError, match="no node 'conv9'"):
        found.node("conv9")
    with pytest.raises(CaptureError):
        found.consumers("conv9")


def test_density_is_over_all_calls() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.act(step) for step in x])

    found = capture(Loop(), torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    assert found.node("act").density == 0.75
    assert found.node("act").values == "spikes"
