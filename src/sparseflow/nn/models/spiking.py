"""Spiking networks: VGG, ResNet, SEW-ResNet and a small CSNN.

All take a static image `[N, C, H, W]`, whose stem runs once and is repeated over
T at the first neuron, or an event sequence `[T, N, C, H, W]`. All return logits
`[N, classes]`, the mean over T. Call `reset_net` between inputs.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, Grid, MaxPool2d, Repeat
from sparseflow.nn.neurons import IFNode, LIFNode

__all__ = [
    "CSNN",
    "SpikingResNet",
    "SpikingVGG",
    "csnn",
    "sew_resnet18",
    "spiking_resnet18",
    "spiking_resnet50",
    "spiking_vgg9",
    "spiking_vgg11",
]

Neuron = Callable[[], nn.Module]

_VGG9 = (64, 64, "P", 128, 128, "P", 256, 256, 256, "P")
_VGG11 = (64, "P", 128, "P", 256, 256, "P", 512, 512, "P", 512, 512)


def _lif() -> nn.Module:
    return LIFNode(tau=2.0, detach_reset=True, step_mode="m")


def _fc1(fan_in: int, width: int) -> nn.Linear:
    # No batch norm follows, so the weights start as if one input in ten fired: no neuron starts dead.
    layer = nn.Linear(fan_in, width)
    nn.init.normal_(layer.weight, std=(2.0 / (0.1 * fan_in)) ** 0.5)
    return layer


class SpikingVGG(nn.Module):
    """Convolutions 3×3 with batch norm and neurons, max-pooled spikes, two linear layers.

    Pooling follows the neuron, so that bits stay bits.

    Args:
        plan: output channels of each convolution, or "P" for a 2×2 max-pool.
        num_classes: number of logits.
        in_channels: channels of the image.
        image_size: height and width of the image.
        hidden: width of the first linear layer.
        steps: time steps T for a static image.
        neuron: makes one multi-step neuron; default LIF, tau 2, threshold 1, hard reset.

    Raises:
        ConfigError: `image_size` does not divide by the pooling.
    """

    def __init__(
        self,
        plan: Sequence[int | str],
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        hidden: int = 256,
        steps: int = 4,
        neuron: Neuron = _lif,
    ) -> None:
        super().__init__()
        factor = 2 ** sum(entry == "P" for entry in plan)
        if image_size % factor or image_size <= 0:
            raise ConfigError(f"image_size is {image_size}; expected a multiple of {factor}")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        channels, i = in_channels, 0
        for entry in plan:
            if isinstance(entry, str):
                layers[f"pool{i}"] = MaxPool2d(2, 2)
                continue
            i += 1
            layers[f"conv{i}"] = Conv2d(channels, entry, 3, padding=1, bias=False)
            layers[f"bn{i}"] = BatchNorm2d(entry)
            if i == 1:
                layers["repeat"] = Repeat(steps)
            layers[f"sn{i}"] = neuron()
            channels = entry
        self.features = nn.Sequential(layers)
        fan_in = channels * (image_size // factor) ** 2
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(2),
                fc1=_fc1(fan_in, hidden),
                sn=neuron(),
                fc2=nn.Linear(hidden, num_classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]`."""
        out: Tensor = self.classifier(self.features(x))
        return out.mean(0)


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, inplanes: int, planes: int, stride: int, neuron: Neuron, sew: bool) -> None:
        super().__init__()
        self.sew = sew
        self.conv1 = Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.sn1 = neuron()
        self.conv2 = Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.sn2 = neuron()
        self.downsample = _shortcut(inplanes, planes, stride, neuron, sew)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
        merged: Tensor = self.sn2(out) + identity if self.sew else self.sn2(out + identity)
        return merged


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inplanes: int, planes: int, stride: int, neuron: Neuron, sew: bool) -> None:
        super().__init__()
        self.sew = sew
        width = planes * self.expansion
        self.conv1 = Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = BatchNorm2d(planes)
        self.sn1 = neuron()
        self.conv2 = Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = BatchNorm2d(planes)
        self.sn2 = neuron()
        self.conv3 = Conv2d(planes, width, 1, bias=False)
        self.bn3 = BatchNorm2d(width)
        self.sn3 = neuron()
        self.downsample = _shortcut(inplanes, width, stride, neuron, sew)

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.sn1(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.sn2(self.bn2(self.conv2(out)))))
        merged: Tensor = self.sn3(out) + identity if self.sew else self.sn3(out + identity)
        return merged


def _shortcut(inplanes: int, width: int, stride: int, neuron: Neuron, sew: bool) -> nn.Sequential | None:
    if stride == 1 and inplanes == width:
        return None
    layers: list[nn.Module] = [Conv2d(inplanes, width, 1, stride, bias=False), BatchNorm2d(width)]
    return nn.Sequential(*layers, neuron()) if sew else nn.Sequential(*layers)


class SpikingResNet(nn.Module):
    """ResNet with neurons for activations; module names are torchvision's with `sn*` added.

    Args:
        block: "basic" or "bottleneck".
        layers: blocks in each of the four stages.
        sew: True adds the spikes of both branches after their neurons (SEW, ADD; Fang
            et al., NeurIPS 2021), so that later inputs are small counts; False adds
            before the neuron.
        stem: "cifar" (3×3, stride 1) or "imagenet" (7×7, stride 2, max-pool).
        num_classes: number of logits.
        in_channels: channels of the image.
        width: channels of the first stage.
        steps: time steps T for a static image.
        neuron: makes one multi-step neuron.
        input_bits: binary places that the image's numbers keep (see `Grid`); None for all.

    Raises:
        ConfigError: unknown block or stem, not four stages, or `input_bits` out of range.
    """

    def __init__(
        self,
        block: str,
        layers: Sequence[int],
        *,
        sew: bool = False,
        stem: str = "cifar",
        num_classes: int = 10,
        in_channels: int = 3,
        width: int = 64,
        steps: int = 4,
        neuron: Neuron = _lif,
        input_bits: int | None = None,
    ) -> None:
        super().__init__()
        if block not in ("basic", "bottleneck"):
            raise ConfigError(f"block is {block!r}; expected 'basic' or 'bottleneck'")
        if len(layers) != 4:
            raise ConfigError(f"layers is {tuple(layers)}; expected the blocks of four stages")
        if stem not in ("cifar", "imagenet"):
            raise ConfigError(f"stem is {stem!r}; expected 'cifar' or 'imagenet'")
        kind: type[_Basic] | type[_Bottleneck] = _Basic if block == "basic" else _Bottleneck
        large = stem == "imagenet"
        self.grid = None if input_bits is None else Grid(input_bits)
        self.conv1 = Conv2d(in_channels, width, 7 if large else 3, 2 if large else 1, 3 if large else 1, bias=False)
        self.bn1 = BatchNorm2d(width)
        self.repeat = Repeat(steps)
        self.sn1 = neuron()
        self.maxpool = MaxPool2d(3, 2, 1) if large else nn.Identity()
        inplanes, stages = width, []
        for stage, count in enumerate(layers):
            blocks: list[nn.Module] = []
            planes = width * 2**stage
            for i in range(count):
                blocks.append(kind(inplanes, planes, 2 if stage and not i else 1, neuron, sew))
                inplanes = planes * kind.expansion
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = AdaptiveAvgPool2d((1, 1))
        self.flatten = nn.Flatten(2)
        self.fc = nn.Linear(inplanes, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]`."""
        x = x if self.grid is None else self.grid(x)
        x = self.maxpool(self.sn1(self.repeat(self.bn1(self.conv1(x)))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        out: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return out.mean(0)


class CSNN(nn.Module):
    """Two convolutions and two linear layers with IF neurons, for 28×28 images.

    Args:
        channels: channels of both convolutions.
        num_classes: number of logits.
        in_channels: channels of the image.
        image_size: height and width, a multiple of 4.
        steps: time steps T for a static image.
        neuron: makes one multi-step neuron; default IF, threshold 1, hard reset.

    Raises:
        ConfigError: `image_size` is no multiple of 4.
    """

    def __init__(
        self,
        *,
        channels: int = 32,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        steps: int = 4,
        neuron: Neuron | None = None,
    ) -> None:
        super().__init__()
        if image_size % 4 or image_size <= 0:
            raise ConfigError(f"image_size is {image_size}; expected a multiple of 4")
        neuron = neuron or (lambda: IFNode(detach_reset=True, step_mode="m"))
        fan_in = channels * (image_size // 4) ** 2
        self.features = nn.Sequential(
            OrderedDict(
                conv1=Conv2d(in_channels, channels, 3, padding=1, bias=False),
                bn1=BatchNorm2d(channels),
                repeat=Repeat(steps),
                sn1=neuron(),
                pool1=MaxPool2d(2, 2),
                conv2=Conv2d(channels, channels, 3, padding=1, bias=False),
                bn2=BatchNorm2d(channels),
                sn2=neuron(),
                pool2=MaxPool2d(2, 2),
            )
        )
        self.classifier = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(2),
                fc1=_fc1(fan_in, channels * 8),
                sn=neuron(),
                fc2=nn.Linear(channels * 8, num_classes),
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `[N, classes]`."""
        out: Tensor = self.classifier(self.features(x))
        return out.mean(0)


def spiking_vgg9(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    hidden: int = 256,
    steps: int = 4,
    neuron: Neuron = _lif,
) -> SpikingVGG:
    """Build seven convolutions (64-64-P-128-128-P-256-256-256-P) and two linear layers."""
    return SpikingVGG(
        _VGG9,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        hidden=hidden,
        steps=steps,
        neuron=neuron,
    )


def spiking_vgg11(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    image_size: int = 32,
    hidden: int = 512,
    steps: int = 4,
    neuron: Neuron = _lif,
) -> SpikingVGG:
    """Build VGG-11's eight convolutions (four pools) and two linear layers."""
    return SpikingVGG(
        _VGG11,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        hidden=hidden,
        steps=steps,
        neuron=neuron,
    )


def sew_resnet18(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: str = "cifar",
    width: int = 64,
    steps: int = 4,
    neuron: Neuron = _lif,
    input_bits: int | None = None,
) -> SpikingResNet:
    """Build SEW-ResNet-18 with ADD."""
    return SpikingResNet(
        "basic",
        (2, 2, 2, 2),
        sew=True,
        stem=stem,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        steps=steps,
        neuron=neuron,
        input_bits=input_bits,
    )


def spiking_resnet18(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: str = "cifar",
    width: int = 64,
    steps: int = 4,
    neuron: Neuron = _lif,
    input_bits: int | None = None,
) -> SpikingResNet:
    """Build Spiking-ResNet-18."""
    return SpikingResNet(
        "basic",
        (2, 2, 2, 2),
        stem=stem,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        steps=steps,
        neuron=neuron,
        input_bits=input_bits,
    )


def spiking_resnet50(
    *,
    num_classes: int = 10,
    in_channels: int = 3,
    stem: str = "cifar",
    width: int = 64,
    steps: int = 4,
    neuron: Neuron = _lif,
    input_bits: int | None = None,
) -> SpikingResNet:
    """Build Spiking-ResNet-50."""
    return SpikingResNet(
        "bottleneck",
        (3, 4, 6, 3),
        stem=stem,
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        steps=steps,
        neuron=neuron,
        input_bits=input_bits,
    )


def csnn(
    *,
    channels: int = 32,
    num_classes: int = 10,
    in_channels: int = 1,
    image_size: int = 28,
    steps: int = 4,
    neuron: Neuron | None = None,
) -> CSNN:
    """Build the small CSNN."""
    return CSNN(
        channels=channels,
        num_classes=num_classes,
        in_channels=in_channels,
        image_size=image_size,
        steps=steps,
        neuron=neuron,
    )
