"""Weights whose float32 sums over spikes are exact, so that their order does not matter.

A float32 sum depends on its order by about 1e-7, and a neuron whose potential lies
that close to its threshold then fires or not by chance. If every weight and bias
of a layer is a whole number of steps s = 2^e, and no sum of them exceeds 2^24·s,
then every sum over spikes is exact in float32: order, blocking and kernel no
longer matter. Batch norm is folded into the layer in front of it first, since its
multiplication would leave the grid.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress import fold_bn
from sparseflow.errors import ConfigError
from sparseflow.trace import Node, capture

__all__ = ["make_exact"]

_MANTISSA_BITS = 24
_SCALE = 64.0
"""Folded norms keep scale 64 and variance 64²: beside them ε vanishes in float32, so they multiply by exactly 1."""


def make_exact(model: nn.Module, sample: Any) -> dict[str, int]:
    """Fold batch norms into the layers in front of them and put weights on exact grids, in place.

    The state dict keeps its names and shapes: a folded norm stays, with mean 0
    and scale 1, and adds the bias. Weights are float16 values afterwards. They
    change by less than half a step of float16, so measure the accuracy again.

    For a layer with weights w and bias b the step is 2^e, e the least integer with
    max over outputs k of Σ|w[k]| + |b[k]| ≤ 2^(24 + e): sums stay exact even if
    every input spikes. Layers on other inputs than spikes are put on grids too,
    where it does no harm.

    Args:
        model: a network in eval mode, with finite weights.
        sample: one input batch, to see which norm follows which layer.

    Returns:
        e by layer name.

    Raises:
        CaptureError: the model cannot be followed.
        ConfigError: a weight is beyond float16.
    """
    found = capture(model, sample)
    norms: dict[str, str] = {}
    for node in found.nodes:
        before = found.producers(node)
        if node.op == "batch_norm" and len(before) == 1 and found.consumers(before[0]) == (node,):
            norms[before[0].target] = node.target
    steps = {}
    with torch.no_grad():
        for node in found.nodes:
            if _weighted(node):
                layer = model.get_submodule(node.target)
                norm = model.get_submodule(norms[node.target]) if node.target in norms else None
                steps[node.target] = _snap(node.target, layer, norm)
    return steps


def _weighted(node: Node) -> bool:
    return node.kind == "module" and node.op in ("conv2d", "linear")


def _snap(name: str, layer: nn.Module, norm: nn.Module | None) -> int:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    weight, bias = layer.weight, layer.bias
    if norm is None:
        exponent = _exponent(name, weight, bias)
        weight.copy_(_grid(weight, exponent))
        if bias is not None:
            bias.copy_(_grid(bias, exponent))
        return exponent
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    folded, shift = fold_bn(weight, bias, norm)
    exponent = _exponent(name, folded, shift)
    weight.copy_(_grid(folded, exponent))
    if bias is not None:
        bias.zero_()
    norm.weight.fill_(_SCALE)
    norm.running_var.fill_(_SCALE**2)
    norm.running_mean.zero_()
    norm.bias.copy_(_grid(shift, exponent))
    return exponent


def _exponent(name: str, weight: Tensor, bias: Tensor | None) -> int:
    bound = weight.half().double().flatten(1).abs().sum(1)
    if bias is not None:
        bound = bound + bias.half().double().abs()
    top = float(bound.max())
    if not math.isfinite(top):
        raise ConfigError(f"{name} holds weights that float16 cannot; scale them down before they are made exact")
    return max(math.ceil(math.log2(top)) - _MANTISSA_BITS if top > 0 else 0, -_MANTISSA_BITS)


def _grid(x: Tensor, exponent: int) -> Tensor:
    step = 2.0**exponent
    return (x.half().double() / step).round().mul(step).to(x.dtype)
