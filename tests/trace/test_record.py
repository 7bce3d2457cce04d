"""The recorder: who made which tensor."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sparseflow.trace import Weight, capture
from sparseflow.trace._record import is_leaf


class Fn(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function, self.lin = function, nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(self.lin(x))


def producers(function: Callable[[torch.Tensor], torch.Tensor]) -> set[str]:
    """Return the nodes from which the output is reachable, walking back."""
    found = capture(Fn(function), torch.rand(2, 3))
    reached, front = set(), ["output"]
    while front:
        for node in found.producers(front.pop()):
            if node.name not in reached:
                reached.add(node.name)
                front.append(node.name)
    return reached


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.relu_(),
        lambda x: torch.relu(x.view(3, 2).T[0]),
        lambda x: torch.stack(list(x)),
        lambda x: torch.cat(x.split(1)),
        lambda x: torch.einsum("ij,kj->ik", x, x),
        lambda x: torch.zeros(2, 3).copy_(x),
        lambda x: torch.empty(2, 3).index_copy_(0, torch.tensor([0, 1]), x),
        lambda x: torch.add(x, 1, out=torch.empty(2, 3)),
        lambda x: x.max(1).values,
        lambda x: x.topk(2).indices.float(),
        lambda x: torch.where(x > 0, 1.0, 0.0),
        lambda x: x[x > -9],
        lambda x: x.to(torch.float64).new_tensor([1.0]) + x,
        lambda x: torch.linalg.norm(x, dim=1),
        lambda x: torch.fft.fft(x).real,
    ],
)
def test_the_chain_to_the_output_is_unbroken(function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert {"input", "lin"} <= producers(function)


def test_a_write_through_a_view_reaches_the_base() -> None:
    def write(x: torch.Tensor) -> torch.Tensor:
        base = torch.zeros(2, 3)
        base[0].add_(x[0])
        return base * 1

    assert "lin" in producers(write)


def test_writes_are_seen_under_inference_mode() -> None:
    def write(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            base = torch.zeros(2, 3)
            base += x
            base[0] = 1.0
            return base

    assert "lin" in producers(write)
    with torch.inference_mode():
        assert "lin" in producers(lambda x: torch.zeros(2, 3).add_(x))


def test_a_constant_has_no_producer() -> None:
    found = capture(Fn(lambda x: torch.ones(3) * 2), torch.rand(2, 3))
    assert found.producers("mul") == (found.node("ones"),)
    assert found.node("ones").kind == "constant"


def test_custom_autograd_functions_are_seen_through() -> None:
    class Sign(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return (x > 0).float()

    assert {"lin", "compare", "cast"} <= producers(Sign.apply)


def test_parameters_in_functions_are_operands_not_edges() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x, self.weight)

    node = capture(Scale(), torch.rand(2, 3)).node("linear")
    assert node.inputs == ("input",)
    assert node.params == {"weight": Weight((4, 3), "float32", 1.0)}


def test_leaves() -> None:
    assert is_leaf(nn.Conv2d(1, 1, 1))
    assert is_leaf(nn.Identity())
    assert is_leaf(nn.MultiheadAttention(4, 2))
    assert not is_leaf(nn.Sequential(nn.ReLU()))
    assert not is_leaf(nn.ModuleList())
    assert not is_leaf(nn.TransformerEncoderLayer(4, 2))
    assert not is_leaf(Fn(torch.relu))

    class Own(nn.Conv2d):
        pass

    class Wrapper(nn.Module):
        pass

    assert is_leaf(Own(1, 1, 1))
    assert not is_leaf(Wrapper())


def test_leaves_of_spikingjelly() -> None:
    layer = pytest.importorskip("spikingjelly.activation_based.layer")
    assert is_leaf(layer.Conv2d(1, 1, 1))
    assert is_leaf(layer.SynapseFilter())
    assert not is_leaf(layer.SeqToANNContainer(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)))
