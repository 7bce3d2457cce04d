"""Networks whose layers follow one another: AlexNet, VGG, LeNet-5, NiN, MobileNet and SqueezeNet for small images.

All take images `[N, C, H, W]` and return logits `[N, classes]`. A layer's name is that of
its paper below `features` or `classifier`; the module of that name is a `ConvBlock` or a
`LinearBlock`. `width` is a factor on all channels but those of the image and the logits.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.models.convnets.blocks import ConvBlock, Fire, LinearBlock, scaled

__all__ = ["ConvNet", "alexnet", "lenet5", "mobilenetv1", "nin", "squeezenet", "vgg16", "vgg19"]

_VGG16 = (2, 2, 3, 3, 3)
_VGG19 = (2, 2, 4, 4, 4)
_VGG_CHANNELS = (64, 128, 256, 512, 512)
# (output channels, stride) of each depthwise-separable pair; the stem keeps the size of a small image.
_MOBILENET = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1),
)  # fmt: skip
# (squeeze, expand) of fire2 to fire9, pooled before fire4 and fire6.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))


class ConvNet(nn.Module):
    """Layers `features` on the image, then layers `classifier` on what they made.

    Args:
        features: modules by name, in their order.
        classifier: modules by name, in their order; the last one makes the logits.
    """

    def __init__(self, features: Mapping[str, nn.Module], classifier: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.features = nn.Sequential(OrderedDict(features))
        self.classifier = nn.Sequential(OrderedDict(classifier))

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]` of images `[N, C, H, W]`."""
        out: Tensor = self.classifier(self.features(x))
        return out


def _side(image_size: int, factor: int) -> int:
    if image_size < factor or image_size % factor:
        raise ConfigError(f"image_size is {image_size}; expected a multiple of {factor}")
    return image_size // factor


def alexnet(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    dropout: float = 0.5,
) -> ConvNet:
    """Build the small AlexNet: conv1 (5×5, stride 2), conv2 (5×5), conv3 to conv5 (3×3), fc1 512, fc2 256, fc3.

    Pools follow conv1, conv2 and conv5; fc1 reads 256·(image_size/16)² values, 1024 of a 32×32 image.

    Raises:
        ConfigError: `image_size` is no multiple of 16, or `width` is not above 0.

    Source: Krizhevsky et al., NeurIPS 2012, as scaled down by the project's document on tri-segment approximation.
    """
    side = _side(image_size, 16)
    c1, c2, c3, c4, c5 = (scaled(c, width) for c in (64, 192, 384, 256, 256))
    f1, f2 = scaled(512, width), scaled(256, width)
    features = {
        "conv1": ConvBlock(in_channels, c1, 5, stride=2),
        "pool1": nn.MaxPool2d(2),
        "conv2": ConvBlock(c1, c2, 5),
        "pool2": nn.MaxPool2d(2),
        "conv3": ConvBlock(c2, c3),
        "conv4": ConvBlock(c3, c4),
        "conv5": ConvBlock(c4, c5),
        "pool5": nn.MaxPool2d(2),
    }
    classifier = {
        "flatten": nn.Flatten(),
        "drop1": nn.Dropout(dropout),
        "fc1": LinearBlock(c5 * side**2, f1),
        "drop2": nn.Dropout(dropout),
        "fc2": LinearBlock(f1, f2),
        "fc3": nn.Linear(f2, num_classes),
    }
    return ConvNet(features, classifier)


def _vgg(
    plan: Sequence[int],
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float,
    hidden: int,
    dropout: float,
) -> ConvNet:
    side = _side(image_size, 32)
    if hidden < 0:
        raise ConfigError(f"hidden is {hidden}; expected the features of fc1, or 0 for a single linear layer")
    features: dict[str, nn.Module] = {}
    channels = in_channels
    for stage, (count, base) in enumerate(zip(plan, _VGG_CHANNELS, strict=True), 1):
        for i in range(1, count + 1):
            outputs = scaled(base, width)
            features[f"conv{stage}_{i}"] = ConvBlock(channels, outputs)
            channels = outputs
        features[f"pool{stage}"] = nn.MaxPool2d(2)
    inputs = channels * side**2
    classifier: dict[str, nn.Module] = {"flatten": nn.Flatten(), "drop": nn.Dropout(dropout)}
    if hidden:
        classifier |= {
            "fc1": LinearBlock(inputs, hidden),
            "drop1": nn.Dropout(dropout),
            "fc2": nn.Linear(hidden, num_classes),
        }
    else:
        classifier["fc"] = nn.Linear(inputs, num_classes)
    return ConvNet(features, classifier)


def vgg16(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    hidden: int = 0,
    dropout: float = 0.5,
) -> ConvNet:
    """Build VGG-16 with batch norm: conv1_1 to conv5_3, a pool behind each stage, and a linear layer.

    Args:
        num_classes: number of logits.
        in_channels: channels of the image.
        image_size: height and width of the image.
        width: factor on the channels.
        hidden: features of a layer fc1 in front of the logits, whose activation is one more site; 0 for none.
        dropout: probability of dropout in the classifier.

    Raises:
        ConfigError: `image_size` is no multiple of 32, `hidden` is negative, or `width` is not above 0.

    Source: Simonyan and Zisserman, ICLR 2015.
    """
    return _vgg(
        _VGG16,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        width=width,
        hidden=hidden,
        dropout=dropout,
    )


def vgg19(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    width: float = 1.0,
    hidden: int = 0,
    dropout: float = 0.5,
) -> ConvNet:
    """Build VGG-19: as `vgg16`, with four convolutions in each of the last three stages.

    Raises:
        ConfigError: as `vgg16`.
    """
    return _vgg(
        _VGG19,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        width=width,
        hidden=hidden,
        dropout=dropout,
    )


def lenet5(*, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: float = 1.0) -> ConvNet:
    """Build LeNet-5 with ReLU and max-pools, without batch norm: conv1 6, conv2 16, fc1 120, fc2 84, fc3.

    Raises:
        ConfigError: `image_size` is below 16 or no multiple of 4, or `width` is not above 0.

    Source: LeCun et al., Proc. IEEE 1998.
    """
    side = _side(image_size, 4) - 3
    if side < 1:
        raise ConfigError(f"image_size is {image_size}; LeNet-5 needs 16 or more")
    c1, c2, f1, f2 = (scaled(c, width) for c in (6, 16, 120, 84))
    features = {
        "conv1": ConvBlock(in_channels, c1, 5, padding=0, norm=False),
        "pool1": nn.MaxPool2d(2),
        "conv2": ConvBlock(c1, c2, 5, padding=0, norm=False),
        "pool2": nn.MaxPool2d(2),
    }
    classifier = {
        "flatten": nn.Flatten(),
        "fc1": LinearBlock(c2 * side**2, f1),
        "fc2": LinearBlock(f1, f2),
        "fc3": nn.Linear(f2, num_classes),
    }
    return ConvNet(features, classifier)


def nin(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, dropout: float = 0.5) -> ConvNet:
    """Build Network in Network with batch norm: conv1 to conv3, each followed by two 1×1 convolutions cccp1 to cccp6.

    The paper averages one map a class into the logits; here cccp6 keeps 192 maps and a
    linear layer `fc` reads their means, so that every activation is read by a layer.

    Raises:
        ConfigError: `width` is not above 0.

    Source: Lin et al., ICLR 2014.
    """
    c1, c2, c3, c = (scaled(n, width) for n in (192, 160, 96, 192))
    features = {
        "conv1": ConvBlock(in_channels, c1, 5),
        "cccp1": ConvBlock(c1, c2, 1),
        "cccp2": ConvBlock(c2, c3, 1),
        "pool1": nn.MaxPool2d(3, 2, 1),
        "drop1": nn.Dropout(dropout),
        "conv2": ConvBlock(c3, c, 5),
        "cccp3": ConvBlock(c, c, 1),
        "cccp4": ConvBlock(c, c, 1),
        "pool2": nn.AvgPool2d(3, 2, 1),
        "drop2": nn.Dropout(dropout),
        "conv3": ConvBlock(c, c, 3),
        "cccp5": ConvBlock(c, c, 1),
        "cccp6": ConvBlock(c, c, 1),
        "avgpool": nn.AdaptiveAvgPool2d(1),
    }
    return ConvNet(features, {"flatten": nn.Flatten(), "fc": nn.Linear(c, num_classes)})


def mobilenetv1(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, dropout: float = 0.0) -> ConvNet:
    """Build MobileNet v1: conv1, then depthwise dw1 to dw13, each followed by a 1×1 convolution pw1 to pw13.

    `width` is the paper's α. The stem has stride 1, which keeps a 32×32 image at 2×2 in the end.

    Raises:
        ConfigError: `width` is not above 0.

    Source: Howard et al., arXiv 1704.04861.
    """
    channels = scaled(32, width)
    features: dict[str, nn.Module] = {"conv1": ConvBlock(in_channels, channels)}
    for i, (base, stride) in enumerate(_MOBILENET, 1):
        outputs = scaled(base, width)
        features[f"dw{i}"] = ConvBlock(channels, channels, stride=stride, groups=channels)
        features[f"pw{i}"] = ConvBlock(channels, outputs, 1)
        channels = outputs
    features["avgpool"] = nn.AdaptiveAvgPool2d(1)
    classifier = {"flatten": nn.Flatten(), "drop": nn.Dropout(dropout), "fc": nn.Linear(channels, num_classes)}
    return ConvNet(features, classifier)


def squeezenet(*, num_classes: int = 10, in_channels: int = 3, width: float = 1.0, dropout: float = 0.5) -> ConvNet:
    """Build SqueezeNet with batch norm: conv1, fire2 to fire9, and conv10, whose mean over the image is the logits.

    Raises:
        ConfigError: `width` is not above 0.

    Source: Iandola et al., arXiv 1602.07360; pools as in version 1.1, conv1 with stride 1 for small images.
    """
    channels = scaled(64, width)
    features: dict[str, nn.Module] = {"conv1": ConvBlock(in_channels, channels), "pool1": nn.MaxPool2d(3, 2, 1)}
    for i, (squeeze, expand) in enumerate(_FIRES, 2):
        if i in (4, 6):
            features[f"pool{i - 1}"] = nn.MaxPool2d(3, 2, 1)
        features[f"fire{i}"] = Fire(channels, scaled(squeeze, width), scaled(expand, width))
        channels = 2 * scaled(expand, width)
    classifier = {
        "drop": nn.Dropout(dropout),
        "conv10": nn.Conv2d(channels, num_classes, 1),
        "avgpool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
    }
    return ConvNet(features, classifier)
