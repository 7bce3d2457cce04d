"""SparseConv2d is torch's convolution: same values, parameters, state dict and gradients."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from sparseflow.errors import UnsupportedError
from sparseflow.nn.sparse_conv import SparseConv2d, zeros_around
from tests.tolerances import assert_near

CASES: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 1, "bias": False},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 5, "padding": "same"},
    {"kernel_size": 3, "padding": "valid", "dilation": 2},
    {"kernel_size": 3, "padding": 1, "groups": 4},
    {"kernel_size": (3, 1), "padding": (1, 0), "stride": (1, 2)},
]


def _spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(*shape) < 0.1).float()


@pytest.mark.parametrize("kernel", ["auto", "dense", "event"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_as_dense(case: dict[str, Any], kernel: str) -> None:
    conv = nn.Conv2d(8, 12, **case).eval()
    sparse = SparseConv2d.from_dense(conv, kernel=kernel)
    for x in (_spikes(2, 8, 9, 7), torch.randn(2, 8, 9, 7)):
        assert_near(sparse(x), conv(x), "conv2d_spike")


def test_sequences_and_single_maps() -> None:
    conv = nn.Conv2d(4, 6, 3).eval()
    sparse = SparseConv2d.from_dense(conv, kernel="event")
    x = _spikes(3, 2, 4, 8, 8)
    assert_near(sparse(x), conv(x.flatten(0, 1)).view(3, 2, 6, 6, 6), "conv2d_spike")
    assert_near(sparse(x[0, 0]), conv(x[0, 0]), "conv2d_spike")


def test_shares_parameters_and_state_dict() -> None:
    conv = nn.Conv2d(4, 6, 3).eval()
    sparse = SparseConv2d.from_dense(conv, 8, kernel="event")
    assert sparse.weight is conv.weight
    assert sparse.block_size == 8
    sparse(_spikes(1, 4, 8, 8))
    assert sparse.state_dict().keys() == conv.state_dict().keys()
    assert "kernel='event'" in repr(sparse)
    assert isinstance(conv, nn.Conv2d)
    assert not isinstance(conv, SparseConv2d)


@pytest.mark.parametrize("how", ["load", "in place", "data", "parameter", "move", "copy"])
def test_packs_again_when_the_weight_changes(how: str) -> None:
    sparse = SparseConv2d(4, 6, 3, kernel="event").eval()
    x, other = _spikes(2, 4, 8, 8), nn.Conv2d(4, 6, 3).eval()
    sparse(x)
    with torch.no_grad():
        if how == "load":
            sparse.load_state_dict(other.state_dict())
        elif how == "in place":
            sparse.weight.copy_(other.weight)
            assert sparse.bias is not None
            sparse.bias.copy_(other.bias)  # type: ignore[arg-type]
        elif how == "data":
            sparse.weight.data, sparse.bias = other.weight.data, other.bias
        elif how == "parameter":
            sparse.weight, sparse.bias = other.weight, other.bias
        elif how == "copy":
            sparse = copy.deepcopy(sparse)
            sparse.load_state_dict(other.state_dict())
        else:
            sparse.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            sparse.load_state_dict(other.state_dict())
    assert_near(sparse(x), other(x), "conv2d_spike")


def test_other_dtypes_run_dense() -> None:
    sparse = SparseConv2d(4, 6, 3, kernel="event").eval()
    sparse(_spikes(1, 4, 8, 8))
    assert sparse.double()(_spikes(1, 4, 8, 8).double()).dtype == torch.float64
    assert sparse.float()(_spikes(1, 4, 8, 8)).dtype == torch.float32


def test_gradients_in_both_modes() -> None:
    for mode in (True, False):
        conv = nn.Conv2d(4, 6, 3).train(mode)
        sparse = SparseConv2d.from_dense(copy.deepcopy(conv), kernel="event").train(mode)
        x = _spikes(2, 4, 8, 8).requires_grad_()
        y = x.detach().clone().requires_grad_()
        sparse(x).square().sum().backward()
        conv(y).square().sum().backward()
        assert x.grad is not None
        assert y.grad is not None
        assert sparse.weight.grad is not None
        assert_near(x.grad, y.grad, "conv2d_spike_gradient")
        assert conv.weight.grad is not None
        assert_near(sparse.weight.grad, conv.weight.grad, "conv2d_spike_gradient")


def test_auto_chooses_once_a_shape() -> None:
    sparse = SparseConv2d(4, 6, 3).eval()
    for _ in range(2):
        sparse(_spikes(2, 4, 8, 8))
    sparse(_spikes(1, 4, 8, 8))
    assert set(sparse.choices) == {(2, 4, 8, 8), (1, 4, 8, 8)}
    assert set(sparse.choices.values()) <= set(SparseConv2d.kernels)


def test_compiles_to_one_graph() -> None:
    sparse = SparseConv2d(4, 6, 3, kernel="event").eval()
    x = _spikes(2, 4, 8, 8)
    want = sparse(x)
    got = torch.compile(sparse, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(got, want)


@torch.no_grad()
def test_compiles_before_its_first_call_and_after_training() -> None:
    sparse, x = SparseConv2d(4, 6, 3, kernel="event").eval(), _spikes(2, 4, 8, 8)
    assert torch.equal(torch.compile(sparse, fullgraph=True, backend="aot_eager")(x), sparse(x))
    sparse.train()
    sparse.weight.mul_(2.0)
    sparse.eval()
    torch.compiler.reset()
    got = torch.compile(sparse, fullgraph=True, backend="aot_eager")(x)
    assert torch.equal(got, sparse(x))


def test_refuses_padding_that_is_not_zeros() -> None:
    with pytest.raises(UnsupportedError, match="reflect"):
        SparseConv2d(1, 1, 3, padding=1, padding_mode="reflect")
    with pytest.raises(UnsupportedError, match="even kernel"):
        zeros_around(nn.Conv2d(1, 1, 2, padding="same"))
