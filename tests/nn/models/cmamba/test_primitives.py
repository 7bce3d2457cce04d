import inspect
import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from sparseflow.nn.models.cmamba.primitives import (
    CausalConv,
    Float,
    Gate,
    Patches,
    Pool,
    Position,
    Primitives,
    Restore,
    RMSNorm,
    Standardize,
    sincos,
)

# First positions of an encoding of width 4 and of width 5, by a pocket calculator.
PE4 = [[0.0, 1.0, 0.0, 1.0], [0.841471, 0.540302, 0.0099998, 0.99995], [0.909297, -0.416147, 0.0199987, 0.9998]]
PE5 = [[0.0, 1.0, 0.0, 1.0, 0.0], [0.841471, 0.540302, 0.0251162, 0.9996845, 0.00063096]]


def first_design(n: int, d: int) -> torch.Tensor:
    """Return the encoding as the first design computes it, in float32 throughout."""
    pos = torch.arange(n, dtype=torch.float32).unsqueeze(1)
    sines, cosines = torch.arange((d + 1) // 2).float(), torch.arange(d // 2).float()
    pe = torch.zeros(n, d)
    pe[:, 0::2] = torch.sin(pos * torch.exp(-math.log(10000.0) * sines / (d / 2.0)))
    pe[:, 1::2] = torch.cos(pos * torch.exp(-math.log(10000.0) * cosines / (d / 2.0)))
    return pe


@pytest.mark.parametrize("golden", [PE4, PE5])
def test_golden_positions(golden: list[list[float]]) -> None:
    want = torch.tensor(golden)
    torch.testing.assert_close(sincos(*want.shape), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(1, 1), (11, 128), (12, 127), (12, 128), (3, 2)])
def test_positions_are_those_of_the_first_design(n: int, d: int) -> None:
    torch.testing.assert_close(sincos(n, d), first_design(n, d), rtol=0, atol=2e-6)


def test_positions_are_added_and_not_stored() -> None:
    layer = Position(3, 4)
    assert layer.state_dict() == {}
    torch.testing.assert_close(layer(torch.ones(2, 3, 4)), torch.tensor(PE4).expand(2, 3, 4) + 1, rtol=0, atol=1e-6)


def test_golden_order_of_patches() -> None:
    series = torch.arange(12.0).view(1, 2, 6)
    without = [[[[0, 1, 2, 3], [2, 3, 4, 5]], [[6, 7, 8, 9], [8, 9, 10, 11]]]]
    assert Patches(4, 2, 0)(series).tolist() == without
    padded = Patches(4, 2, 2)(series)
    assert padded.shape == (1, 2, 3, 4)
    assert padded[0, :, 2].tolist() == [[4, 5, 5, 5], [10, 11, 11, 11]]


def test_patches_leave_what_does_not_fill_one() -> None:
    assert Patches(4, 3, 0)(torch.arange(9.0)).tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]


@pytest.mark.parametrize(("eps", "want"), [(1e-6, 0.70710678), (1e-5, 0.30151134)])
def test_golden_epsilon_of_the_norm(eps: float, want: float) -> None:
    """A token of 1e-3 alone: its mean square is 1e-6, so ε decides."""
    torch.testing.assert_close(RMSNorm(3, eps)(torch.full((1, 3), 1e-3)), torch.full((1, 3), want))


def test_norm_weighs_and_survives_zeros() -> None:
    norm = RMSNorm(2, 1e-6)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, -1.0]))
    torch.testing.assert_close(norm(torch.tensor([3.0, 4.0])), torch.tensor([1.6970563, -1.1313708]))
    assert norm(torch.zeros(1, 2)).tolist() == [[0.0, 0.0]]


def test_series_come_back_to_their_level() -> None:
    x = torch.randn(3, 2, 50, dtype=torch.float64) * 1e3 + 1e4
    y, mean, std = Standardize()(x)
    torch.testing.assert_close(y.mean(-1), torch.zeros(3, 2, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(std[..., 0], (x.var(-1, correction=0) + 1e-5).sqrt())
    torch.testing.assert_close(Restore()(y, mean, std), x)


def test_a_constant_series_stays_finite() -> None:
    y, mean, std = Standardize()(torch.full((1, 1, 4), 7.0))
    assert y.tolist() == [[[0.0] * 4]]
    assert mean.item() == 7
    assert std.item() == pytest.approx(math.sqrt(1e-5))


def test_the_convolution_sees_no_future() -> None:
    conv = CausalConv(3, 4, True)
    x = torch.randn(2, 6, 3)
    y = conv(x)
    assert y.shape == x.shape
    later = x.clone()
    later[:, 4:] += 1
    torch.testing.assert_close(conv(later)[:, :4], y[:, :4])
    assert not torch.equal(conv(later)[:, 4:], y[:, 4:])
    by_hand = sum(conv.weight[:, 0, 3 - i] * x[:, 5 - i] for i in range(4)) + conv.bias
    torch.testing.assert_close(y[:, 5], by_hand)


def test_pool_and_gate() -> None:
    assert Pool()(torch.tensor([[1.0, 2.0, 6.0]])).tolist() == [[3.0], [6.0]]
    y, scale, shift = torch.randn(2, 3, 4), torch.randn(2, 3, 1), torch.randn(2, 3, 1)
    torch.testing.assert_close(Gate()(y, scale, shift), scale.sigmoid() * y + shift.sigmoid())


def test_a_linear_layer_may_be_empty() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, second = Float().linear(1, 0, bias=False), Float().linear(0, 1, bias=False)
    assert second(first(torch.ones(2, 1))).tolist() == [[0.0], [0.0]]


def test_float_makes_every_primitive() -> None:
    names = {n for n, f in inspect.getmembers(Primitives, inspect.isfunction) if not n.startswith("_")}
    assert names == {n for n, f in inspect.getmembers(Float, inspect.isfunction) if not n.startswith("_")}
    sizes = {"inputs": 2, "outputs": 2, "width": 2, "length": 2, "size": 2, "stride": 1, "padding": 0, "taps": 2}
    given = sizes | {"bias": True, "eps": 1e-5, "share": 0.1}
    for name in names:
        make = getattr(Float(), name)
        assert isinstance(make(**{p: given[p] for p in inspect.signature(make).parameters}), nn.Module)


def test_arrays_and_tensors_share_what_the_forward_uses_beside_primitives() -> None:
    for shared in ("reshape", "swapaxes", "__getitem__", "shape", "ndim"):
        assert hasattr(torch.Tensor, shared)
        assert hasattr(np.ndarray, shared)
