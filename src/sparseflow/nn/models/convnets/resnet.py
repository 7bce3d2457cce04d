"""ResNet for small images: residual sums, read by two layers each."""

from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.models.convnets.blocks import Residual, scaled

__all__ = ["ResNet", "resnet18"]


class ResNet(nn.Module):
    """A 3×3 stem, four stages of `Residual` blocks, the mean over the image, and a linear layer.

    Args:
        blocks: blocks in each of the four stages.
        num_classes: number of logits.
        in_channels: channels of the image.
        width: factor on the channels 64, 128, 256, 512 of the stages.

    Raises:
        ConfigError: not four stages with a block each, or `width` not above 0.
    """

    def __init__(
        self, blocks: tuple[int, ...], *, num_classes: int = 10, in_channels: int = 3, width: float = 1.0
    ) -> None:
        super().__init__()
        if len(blocks) != 4 or min(blocks) < 1:
            raise ConfigError(f"blocks is {blocks}; expected the blocks of four stages, at least one each")
        channels = scaled(64, width)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        stages = []
        for stage, count in enumerate(blocks):
            outputs = scaled(64 * 2**stage, width)
            first = Residual(channels, outputs, 2 if stage else 1)
            stages.append(nn.Sequential(first, *(Residual(outputs, outputs) for _ in range(count - 1))))
            channels = outputs
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]` of images `[N, C, H, W]`."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return out


def resnet18(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0) -> ResNet:
    """Build ResNet-18 with the stem for small images: 17 convolutions in the trunk, 3 on shortcuts, 1 linear layer.

    Source: He et al., CVPR 2016.
    """
    return ResNet((2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels, width=width)
