"""Learn the scales of any model's linear and convolutional layers, by LSQ."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.nn.lsq import LsqQuantizer

__all__ = ["LsqConfig", "LsqLayer", "lsq_layers", "prepare_lsq"]

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d


@dataclass(frozen=True, slots=True, kw_only=True)
class LsqConfig:
    """What is rounded.

    Args:
        weights: bits of weights, 2 to 8, a scale each output.
        activations: bits of what a layer reads, 2 to 8, one scale; None leaves it in floating point.
        keep: dotted paths of layers that stay in floating point.

    Raises:
        ConfigError: bits out of range.
    """

    weights: int = 8
    activations: int | None = 8
    keep: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        for name in ("weights", "activations"):
            bits = getattr(self, name)
            if bits is not None and not 2 <= bits <= 8:
                raise ConfigError(f"LsqConfig.{name} is {bits}; expected 2 to 8")


class LsqLayer(nn.Module):
    """A linear or convolutional layer that reads and weighs by codes.

    Args:
        layer: kept, not copied.
        config: bits.

    Attributes:
        weight: rounds the weights.
        input: rounds what the layer reads; None if nothing does. It is unsigned if the first batch has no negative
            number, as behind a ReLU.

    Shapes: as of `layer`.
    """

    def __init__(self, layer: Layer, config: LsqConfig) -> None:
        super().__init__()
        self.layer, self.bits = layer, config.activations
        self.weight = LsqQuantizer(bits=config.weights, channels=layer.weight.shape[0]).to(layer.weight.device)
        self.input: LsqQuantizer | None = None
        if self.weight.scale.numel() and layer.weight.numel():
            self.weight.start(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's values."""
        if self.bits is not None:
            if self.input is None:
                signed = bool((x < 0).any())
                self.input = LsqQuantizer(bits=self.bits, signed=signed).to(x.device)
            x = self.input(x)
        weight = self.weight(self.layer.weight)
        if isinstance(self.layer, nn.Linear):
            return nn.functional.linear(x, weight, self.layer.bias)
        y: Tensor = self.layer._conv_forward(x, weight, self.layer.bias)
        return y


def prepare_lsq(model: nn.Module, batches: Iterable[Any], config: LsqConfig | None = None) -> nn.Module:
    """Return a copy of a model whose linear and convolutional layers round weights and inputs, with learnt scales.

    The scales are parameters: train the copy as any model. They start from the weights and from the first batch.

    Args:
        model: any module; left as it is.
        batches: inputs, at least one, run once in eval mode so that every scale exists; a tuple is several arguments.
        config: bits; 8 and 8 if None.

    Raises:
        ConfigError: no batch, or `keep` names what is no such layer.
        UnsupportedError: the model has no such layer, or the batches reach one not.

    >>> made = prepare_lsq(nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), [torch.rand(5, 4)])
    >>> [layer.input.qmin for layer in lsq_layers(made).values()]
    [0, 0]
    """
    config = config or LsqConfig()
    made = copy.deepcopy(model)
    # A layer under two names is one layer.
    places = [(n, m) for n, m in made.named_modules(remove_duplicate=False) if isinstance(m, Layer)]
    if unknown := set(config.keep) - {n for n, _ in places}:
        raise ConfigError(f"LsqConfig.keep names {', '.join(sorted(unknown))}; no linear or convolutional layer there")
    chosen = [(n, m) for n, m in places if n not in config.keep]
    if not chosen:
        raise UnsupportedError("the model has no linear or convolutional layer to learn scales for")
    layers: dict[int, LsqLayer] = {}
    for name, module in chosen:
        layer = layers.setdefault(id(module), LsqLayer(module, config).train(module.training))
        if not name:
            made = layer
        else:
            made.set_submodule(name, layer)
    _start(made, batches)
    return made


@torch.no_grad()
def _start(model: nn.Module, batches: Iterable[Any]) -> None:
    modes = [(m, m.training) for m in model.modules()]
    model.eval()
    count = 0
    for batch in batches:
        model(*(batch if type(batch) is tuple else (batch,)))
        count += 1
    for module, mode in modes:
        module.training = mode
    if not count:
        raise ConfigError("LSQ got no batch to start from; give at least one")
    missed = [n for n, m in lsq_layers(model).items() if m.bits is not None and m.input is None]
    if missed:
        raise UnsupportedError(f"the batches reach no layer {', '.join(missed)}; name it in LsqConfig.keep")


def lsq_layers(model: nn.Module) -> dict[str, LsqLayer]:
    """Return the layers with learnt scales, by dotted path."""
    return {name: m for name, m in model.named_modules() if isinstance(m, LsqLayer)}
