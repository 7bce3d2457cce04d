import pytest
import torch
from torch import nn

from sparseflow.errors import ConfigError
from sparseflow.nn.models.convnets import ConvBlock, Fire, LinearBlock, Residual
from sparseflow.nn.models.convnets.blocks import scaled


def image(channels, side=8):
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(0))


def test_a_block_is_convolution_norm_and_relu_of_the_names():
    block = ConvBlock(3, 4, 5, stride=2).eval()
    assert [name for name, _ in block.named_children()] == ["conv", "bn", "relu"]
    x = image(3)
    assert block(x).shape == (2, 4, 4, 4)
    assert torch.equal(block(x), torch.relu(block.bn(block.conv(x))))
    assert block.conv.bias is None


def test_without_norm_the_convolution_has_a_bias():
    block = ConvBlock(3, 4, 5, padding=0, norm=False)
    assert [name for name, _ in block.named_children()] == ["conv", "relu"]
    assert block.conv.bias is not None
    assert block(image(3)).shape == (2, 4, 4, 4)


def test_depthwise():
    block = ConvBlock(6, 6, groups=6)
    assert block.conv.weight.shape == (6, 1, 3, 3)
    assert block(image(6)).shape == (2, 6, 8, 8)


def test_a_linear_block():
    block = LinearBlock(5, 3)
    assert [name for name, _ in block.named_children()] == ["linear", "relu"]
    assert block(torch.randn(2, 5)).min() >= 0


def test_fire_puts_the_1x1_expansion_first():
    fire = Fire(3, 2, 4).eval()
    x = image(3)
    y = fire(x)
    assert y.shape == (2, 8, 8, 8)
    assert torch.equal(y[:, :4], fire.expand1x1(fire.squeeze(x)))


@pytest.mark.parametrize(("outputs", "stride", "projected"), [(4, 1, False), (8, 1, True), (4, 2, True)])
def test_a_residual_is_projected_where_shapes_differ(outputs, stride, projected):
    block = Residual(4, outputs, stride).eval()
    x = image(4)
    assert (block.downsample is not None) == projected
    shortcut = block.downsample(x) if projected else x
    inner = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(x)))))
    assert torch.equal(block(x), torch.relu(inner + shortcut))
    assert block(x).shape == (2, outputs, 8 // stride, 8 // stride)


def test_activations_are_modules_of_their_own():
    for block in (ConvBlock(3, 4), LinearBlock(3, 4), Fire(3, 2, 4), Residual(3, 4)):
        relus = [m for m in block.modules() if isinstance(m, nn.ReLU)]
        assert len(relus) == len(set(map(id, relus)))
        assert not any(m.inplace for m in relus)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_a_width_is_above_zero(width):
    with pytest.raises(ConfigError, match="width"):
        scaled(64, width)


def test_scaled_keeps_a_channel():
    assert [scaled(c, w) for c, w in ((64, 1.0), (96, 0.5), (6, 0.01))] == [64, 48, 1]
