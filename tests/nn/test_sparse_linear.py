"""SparseLinear is torch's linear layer: same values, parameters, state dict and gradients."""

import pytest
import torch
from torch import nn

from sparseflow.nn.sparse_linear import SparseLinear
from tests.tolerances import assert_near


def _spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape) < 0.1).float()


@pytest.mark.parametrize("kernel", ["auto", "dense", "event"])
@pytest.mark.parametrize("shape", [(5, 40), (3, 2, 40), (2, 3, 4, 40), (40,)], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_same_as_dense(shape: tuple[int, ...], kernel: str, bias: bool) -> None:
    linear = nn.Linear(40, 7, bias=bias).eval()
    sparse = SparseLinear.from_dense(linear, kernel=kernel)
    for x in (_spikes(*shape), torch.randn(shape)):
        assert_near(sparse(x), linear(x), "linear_spike")


def test_state_dict_and_fresh_weights() -> None:
    sparse, other, x = SparseLinear(40, 7, kernel="event").eval(), nn.Linear(40, 7), _spikes(3, 40)
    sparse(x)
    assert sparse.state_dict().keys() == other.state_dict().keys()
    sparse.load_state_dict(other.state_dict())
    assert_near(sparse(x), other(x), "linear_spike")
    assert "kernel='event'" in repr(sparse)


def test_gradient() -> None:
    linear, x = nn.Linear(40, 7).eval(), _spikes(3, 40).requires_grad_()
    sparse = SparseLinear.from_dense(linear, kernel="event")
    got = torch.autograd.grad(sparse(x).square().sum(), [x, linear.weight])
    want = torch.autograd.grad(linear(x).square().sum(), [x, linear.weight])
    for a, b in zip(got, want, strict=True):
        assert_near(a, b, "conv2d_spike_gradient")


def test_compiles_to_one_graph() -> None:
    sparse, x = SparseLinear(40, 7, kernel="event").eval(), _spikes(3, 40)
    want = sparse(x)
    assert torch.equal(torch.compile(sparse, fullgraph=True, backend="aot_eager")(x), want)
