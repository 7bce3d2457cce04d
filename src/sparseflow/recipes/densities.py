"""What a spiking network's layers read, and how right it is."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.data import ImageSet
from sparseflow.nn.functional import reset_net
from sparseflow.nn.neurons import SpikingNode

__all__ = ["Rated", "evaluate", "fed_layers", "resized"]

_POOLS = (nn.AdaptiveAvgPool2d, nn.AvgPool2d)


class Rated(nn.Module):
    """A network together with the mean input of every spike-fed layer.

    It starts and ends each call with its neurons at rest, so that no state leaves a compiled step.

    Args:
        model: the network.
        fused: run each neuron as one operator in training.
    """

    def __init__(self, model: nn.Module, *, fused: bool = False) -> None:
        super().__init__()
        self.model = model
        self.rates: dict[int, Tensor] = {}
        self._neurons = [m for m in model.modules() if isinstance(m, SpikingNode)]
        self._fused = fused
        self._fed = fed_layers(model)
        for i, (_, layer) in enumerate(self._fed):
            layer.register_forward_pre_hook(self._note(i))

    def _note(self, i: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.rates[i] = inputs[0].float().mean()

        return note

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits and the mean inputs, in the order of `fed_layers`."""
        self.rates = {}
        for neuron in self._neurons:
            neuron.reset()
            neuron.fused = self._fused
        logits = self.model(x)
        rates = torch.stack([self.rates[i] for i in range(len(self._fed))])
        self.rates = {}
        for neuron in self._neurons:
            neuron.reset()
            neuron.fused = False
        return logits, rates


def fed_layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the convolutions and linear layers after the first, which spikes feed."""
    fed = (nn.Conv2d, nn.Linear)
    return [(name, module) for name, module in model.named_modules() if issubclass(type(module), fed)][1:]


def resized(images: Tensor, side: int | None) -> Tensor:
    """Return `images` `[N, C, H, W]` scaled bilinearly to `side` × `side`, or as they are for None."""
    if side is None or images.shape[-2:] == (side, side):
        return images
    return F.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)


def evaluate(
    model: nn.Module, images: ImageSet, *, batch_size: int = 500, side: int | None = None
) -> tuple[float, dict[str, float]]:
    """Return the top-1 accuracy and the input density of every spike-fed layer.

    Density is the share of inputs other than zero, spikes or counts of spikes. A layer
    behind an average pool reads no spikes; the pool's own input stands for it, by the
    pool's name. Runs in float32 on the device of the model's weights.

    Args:
        model: a network; it is left in eval mode and reset.
        images: labelled images.
        batch_size: images a forward.
        side: scale the images bilinearly to this side; None for as they are.
    """
    device = next(model.parameters()).device
    pools = [(name, module) for name, module in model.named_modules() if isinstance(module, _POOLS)]
    taps = fed_layers(model) + pools
    counts: dict[str, list[Tensor]] = {name: [] for name, _ in taps}
    total: dict[str, int] = dict.fromkeys(counts, 0)
    averaged: set[str] = set()

    def hook(name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            if not counts[name] and bool((x != x.round()).any()):
                averaged.add(name)
            counts[name].append(torch.count_nonzero(x))
            total[name] += x.numel()

        return note

    handles = [layer.register_forward_pre_hook(hook(name)) for name, layer in taps]
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=device)
    try:
        with torch.inference_mode():
            for x, y in images.batches(batch_size):
                reset_net(model)
                right += (model(resized(x.to(device), side)).argmax(1) == y.to(device)).sum()
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    density = {name: float(torch.stack(c).sum()) / total[name] for name, c in counts.items() if name not in averaged}
    return int(right) / len(images), density
