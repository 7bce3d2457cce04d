"""Folding gives the same function as layer and normalisation one after the other."""

import pytest
import torch
from torch import nn

from sparseflow.compress.sparsify.fold import fold_bn, folds
from sparseflow.errors import UnsupportedError


def _bn(channels: int, affine: bool = True) -> nn.BatchNorm2d:
    bn = nn.BatchNorm2d(channels, affine=affine)
    with torch.no_grad():
        assert bn.running_mean is not None
        assert bn.running_var is not None
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.1, 2.0)
        if affine:
            bn.weight.normal_()
            bn.bias.normal_()
    return bn.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_conv(bias: bool, affine: bool, groups: int) -> None:
    conv, bn, x = nn.Conv2d(4, 6, 3, bias=bias, groups=groups), _bn(6, affine), torch.randn(2, 4, 7, 5)
    weight, shift = fold_bn(conv.weight, conv.bias, bn)
    got = nn.functional.conv2d(x, weight, shift, groups=groups)
    torch.testing.assert_close(got, bn(conv(x)), rtol=1e-5, atol=1e-5)


def test_linear() -> None:
    linear, bn, x = nn.Linear(4, 6), nn.BatchNorm1d(6).eval(), torch.randn(3, 4)
    weight, shift = fold_bn(linear.weight, linear.bias, bn)
    torch.testing.assert_close(nn.functional.linear(x, weight, shift), bn(linear(x)))


def test_refuses() -> None:
    assert folds(nn.ReLU()) == "ReLU is not a batch normalisation"
    assert "no running statistics" in (folds(nn.BatchNorm2d(4, track_running_stats=False).eval()) or "")
    with pytest.raises(UnsupportedError, match="training mode"):
        fold_bn(torch.ones(4, 1, 1, 1), None, nn.BatchNorm2d(4))
    with pytest.raises(UnsupportedError, match="3 channels, the layer 4"):
        fold_bn(torch.ones(4, 1, 1, 1), None, _bn(3))
