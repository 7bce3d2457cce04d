"""What the networks are made of: each activation is a ReLU module of its own, so that a trace tells them apart."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError

__all__ = ["ConvBlock", "Fire", "LinearBlock", "Residual", "scaled"]


def scaled(channels: int, width: float) -> int:
    """Return `channels` times `width`, rounded, and at least 1.

    Raises:
        ConfigError: `width` is not above 0.

    >>> scaled(64, 0.5), scaled(3, 0.01)
    (32, 1)
    """
    if not width > 0:
        raise ConfigError(f"width is {width}; expected a factor above 0, as 0.5 for half the channels")
    return max(1, round(channels * width))


class ConvBlock(nn.Sequential):
    """Convolution `conv`, batch norm `bn` and `relu`: `[N, inputs, H, W]` → `[N, outputs, H', W']`.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: height and width of the window.
        stride: stride.
        padding: zeros around; None keeps the size at stride 1.
        groups: groups of channels; `inputs` for a depthwise convolution.
        norm: with batch norm; without it the convolution has a bias.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: int | None = None,
        groups: int = 1,
        norm: bool = True,
    ) -> None:
        pad = kernel // 2 if padding is None else padding
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["conv"] = nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=not norm)
        if norm:
            layers["bn"] = nn.BatchNorm2d(outputs)
        layers["relu"] = nn.ReLU()
        super().__init__(layers)


class LinearBlock(nn.Sequential):
    """Linear layer `linear` and `relu`: `[N, inputs]` → `[N, outputs]`.

    Args:
        inputs: input features.
        outputs: output features.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(OrderedDict(linear=nn.Linear(inputs, outputs), relu=nn.ReLU()))


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1×1 and 3×3 windows side by side: `[N, inputs, H, W]` → `[N, 2·expand, H, W]`.

    Args:
        inputs: input channels.
        squeeze: channels in between.
        expand: channels of each of the two expansions.

    Source: Iandola et al., arXiv 1602.07360, with batch norm.
    """

    def __init__(self, inputs: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = ConvBlock(inputs, squeeze, 1)
        self.expand1x1 = ConvBlock(squeeze, expand, 1)
        self.expand3x3 = ConvBlock(squeeze, expand, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Return both expansions of the squeezed input, one after the other."""
        x = self.squeeze(x)
        return torch.cat([self.expand1x1(x), self.expand3x3(x)], 1)


class Residual(nn.Module):
    """Basic residual block: y = relu(bn2(conv2(relu(bn1(conv1(x))))) + x), with x projected where shapes differ.

    Module names are torchvision's, but for the two activations `relu1` and `relu2`.

    Args:
        inputs: input channels.
        outputs: output channels.
        stride: stride of the first convolution.

    Source: He et al., CVPR 2016.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, outputs, H', W']`."""
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        merged: Tensor = self.relu2(out + identity)
        return merged
