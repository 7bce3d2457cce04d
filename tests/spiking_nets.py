"""Small spiking networks that fire, for tests."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparseflow.nn.functional import reset_net
from sparseflow.nn.layers import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, MaxPool2d, Repeat
from sparseflow.nn.neurons import IFNode, LIFNode, ParametricLIFNode


def lif() -> nn.Module:
    return LIFNode(tau=2.0, step_mode="m")


def alive(model: nn.Module, x: Tensor, gain: float = 1.6) -> nn.Module:
    """Set batch norms so that a good part of the neurons fires on inputs like `x`."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, gain)
            module.momentum = None
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        model(x)
    reset_net(model)
    return model.eval()


class Chain(nn.Module):
    """Stem, two convolutions with a pool between, linear layers: one of every fused block."""

    def __init__(self, neuron: Callable[[], nn.Module] = lif, steps: int = 4, channels: int = 16) -> None:
        super().__init__()
        self.features = nn.Sequential(
            Conv2d(3, channels, 3, padding=1, bias=False), BatchNorm2d(channels), Repeat(steps), neuron(),
            Conv2d(channels, 2 * channels, 3, padding=1), BatchNorm2d(2 * channels), neuron(), MaxPool2d(2),
            Conv2d(2 * channels, 2 * channels, 3, stride=2, padding=1), neuron(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(2), nn.Linear(2 * channels * 4, 32), neuron(), nn.Linear(32, 5))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.features(x)).mean(0)
        return out


class Residual(nn.Module):
    """A fork whose branches meet in front of a neuron, or behind it (SEW)."""

    def __init__(self, sew: bool = False, down: bool = False) -> None:
        super().__init__()
        self.sew = sew
        self.stem = nn.Sequential(Conv2d(3, 16, 3, padding=1), BatchNorm2d(16), Repeat(4), lif())
        self.conv1, self.bn1, self.sn1 = Conv2d(16, 16, 3, padding=1), BatchNorm2d(16), lif()
        self.conv2, self.bn2, self.sn2 = Conv2d(16, 16, 3, padding=1), BatchNorm2d(16), lif()
        self.down = nn.Sequential(Conv2d(16, 16, 1), BatchNorm2d(16)) if down else None
        self.conv3, self.sn3 = Conv2d(16, 16, 1), LIFNode(v_threshold=0.1, step_mode="m")
        self.pool = AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        side = x if self.down is None else self.down(x)
        y = self.bn2(self.conv2(self.sn1(self.bn1(self.conv1(x)))))
        y = self.sn2(y) + side if self.sew else self.sn2(y + side)
        y = self.sn3(self.conv3(y))
        out: Tensor = self.fc(self.pool(y).flatten(2)).mean(0)
        return out


NEURONS: dict[str, Callable[[], nn.Module]] = {
    "if hard": lambda: IFNode(step_mode="m"),
    "if soft": lambda: IFNode(v_reset=None, step_mode="m"),
    "lif hard": lambda: LIFNode(tau=2.0, step_mode="m"),
    "lif reset": lambda: LIFNode(tau=1.5, v_threshold=0.7, v_reset=-0.2, step_mode="m"),
    "lif soft": lambda: LIFNode(tau=3.0, v_reset=None, step_mode="m"),
    "lif no decay": lambda: LIFNode(tau=2.0, decay_input=False, step_mode="m"),
    "plif": lambda: ParametricLIFNode(init_tau=2.5, step_mode="m"),
}


def chain(neuron: Callable[[], nn.Module] = lif, batch: int = 2) -> tuple[nn.Module, Tensor]:
    """Return a firing `Chain` and a batch for it."""
    model = alive(Chain(neuron), torch.randn(8, 3, 8, 8))
    nn.init.normal_(model.features[8].weight, std=0.3)  # type: ignore[index, union-attr, arg-type]
    nn.init.normal_(model.head[1].weight, std=0.3)  # type: ignore[index, union-attr, arg-type]
    return model, torch.randn(batch, 3, 8, 8)


class Branches(nn.Module):
    """Asks for shapes in every way that networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.neuron, self.out = nn.Conv2d(3, 6, 3, padding=1), LIFNode(step_mode="m"), nn.Linear(6, 2)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.dim() in (4, 5), f"not {x.shape}"
        if x.ndim == 4:
            x = x.unsqueeze(0).repeat(2, 1, 1, 1, 1)
        steps, batch, *_ = x.shape
        y = self.conv(x.flatten(0, 1)).view(steps, batch, 6, x.shape[-2], x.size(-1)) * self.scale
        spikes = self.neuron(y)
        parts = [part.amax(2, keepdim=True) for part in spikes.chunk(3, dim=2)]
        q, k, v = spikes.flatten(3).chunk(3, dim=2)
        attention = (q @ k.transpose(-2, -1)) @ v if len(parts) == 3 else q
        best = spikes.max(dim=2, keepdim=True).values
        total = sum(step.sum() for step in spikes)
        pooled = (spikes + parts[0] + best).mean((-2, -1)) + attention.mean() + total / spikes.numel()
        return self.out(pooled).mean(0)
