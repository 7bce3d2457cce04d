"""Weights whose float32 sums over spikes are exact, so that their order does not matter.

A float32 sum depends on its order by about 1e-7, and a neuron whose potential lies
that close to its threshold then fires or not by chance. If every weight and bias
of a layer is a whole number of steps s = 2^e, and no sum of them exceeds 2^24·s,
then every sum over spikes is exact in float32: order, blocking and kernel no
longer matter. Batch norm is folded into the layer in front of it first, since its
multiplication would leave the grid.

With `bits`, each output channel k gets a grid of its own as well, w[k] = i[k] · 2^e[k]
with |i[k]| < 2^(bits-1): the weights then fit into bytes, and products with spikes are
exact in float16 and bfloat16 too.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress import fold_bn
from sparseflow.errors import ConfigError
from sparseflow.nn.functional import reset_net
from sparseflow.nn.models.checkpoint import power_above
from sparseflow.trace import Node, capture

__all__ = ["RowGrids", "make_exact", "on_rows"]

_MANTISSA_BITS = 24
_LEAST = 2.0**-24
"""The least step of float16."""
_SCALE = 64.0
"""Folded norms keep scale 64 and variance 64²: beside them ε vanishes in float32, so they multiply by exactly 1."""


def make_exact(model: nn.Module, sample: Any, *, bits: int | None = None) -> dict[str, int]:
    """Fold batch norms into the layers in front of them and put weights on exact grids, in place.

    The state dict keeps its names and shapes: a folded norm stays, with mean 0
    and scale 1, and adds the bias. Weights are float16 values afterwards. They
    change by less than half a step of float16, or of the rows' grids with `bits`,
    so measure the accuracy again.

    For a layer with weights w and bias b the step is 2^e, e the least integer with
    c · max over outputs k of Σ|w[k]| + |b[k]| ≤ 2^(24 + e): sums stay exact even if
    every input spikes. c is 1 for spikes; for the counts of SEW networks it is the
    least power of two that the largest count in `sample` stays below. Layers on
    other inputs are put on grids too, where it does no harm.

    Args:
        model: a network in eval mode, with finite weights.
        sample: one input batch, to see which norm follows which layer, and the counts.
        bits: bits of a weight, sign included, on the grid of its output channel; None for float16.

    Returns:
        e by layer name; with `bits`, the least of its channels' e.

    Raises:
        CaptureError: the model cannot be followed.
        ConfigError: a weight is beyond float16, or `bits` is not within 2 to 8.
    """
    peaks = _peaks(model, sample)
    steps = {}
    with torch.no_grad():
        for name, norm in _pairs(model, sample).items():
            steps[name] = _snap(name, model.get_submodule(name), norm, peaks.get(name, 1), bits)
    return steps


def on_rows(weight: Tensor, bits: int) -> Tensor:
    """Return `weight` rounded to `bits`-bit integers times a power of two for each output channel.

    The step of channel k is the least 2^e with max|w[k]| ≤ (2^(bits-1) - 1) · 2^e.

    Args:
        weight: `[C_out, ...]`, finite.
        bits: bits of a weight, sign included, 2 to 8.

    Raises:
        ConfigError: `bits` is out of range.

    >>> on_rows(torch.tensor([[100.3, -7.0], [0.75, 0.0]]), 8)
    tensor([[100.0000,  -7.0000],
            [  0.7500,   0.0000]])
    """
    if not 2 <= bits <= 8:
        raise ConfigError(f"bits is {bits}; expected 2 to 8")
    top = 2 ** (bits - 1) - 1
    step = power_above(weight.detach().flatten(1).abs().amax(1).double() / top).clamp(min=_LEAST)
    step = step.view(-1, *[1] * (weight.ndim - 1))
    return (weight.double() / step).round().clamp(-top, top).mul(step).to(weight.dtype)


class RowGrids:
    """Training with weights on the grids that `make_exact(bits=...)` will put them on.

    `push` rounds the weights as they are once the norms are folded, in place, and
    `pop` brings the full weights back. Forward and backward lie between the two, the
    optimizer's step behind them: the gradient passes straight through the rounding.

    Args:
        model: a network; its norms may keep training.
        sample: one input batch, to see which norm follows which layer.
        bits: bits of a weight, sign included.
    """

    def __init__(self, model: nn.Module, sample: Any, bits: int) -> None:
        self.bits = bits
        self._layers = [(model.get_submodule(name), norm) for name, norm in _pairs(model, sample).items()]
        self._full: list[Tensor] = []

    @torch.no_grad()
    def push(self) -> None:
        """Put the weights on their grids and remember the full ones."""
        self._full = [_weight(layer).clone() for layer, _ in self._layers]
        for layer, norm in self._layers:
            weight = _weight(layer)
            if norm is None:
                weight.copy_(on_rows(weight, self.bits))
                continue
            assert norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            # A channel that its norm has switched off keeps its weights.
            scale = torch.where(scale.abs() < 1e-8, torch.ones_like(scale), scale).view(-1, 1, 1, 1)
            weight.copy_(on_rows(weight * scale, self.bits) / scale)

    @torch.no_grad()
    def pop(self) -> None:
        """Bring the full weights back."""
        for (layer, _), full in zip(self._layers, self._full, strict=True):
            _weight(layer).copy_(full)
        self._full = []


def _pairs(model: nn.Module, sample: Any) -> dict[str, nn.BatchNorm2d | None]:
    """Return the norm behind each weighted layer, by layer name in order of execution."""
    found = capture(model, sample)
    norms: dict[str, nn.BatchNorm2d] = {}
    for node in found.nodes:
        before = found.producers(node)
        if node.op == "batch_norm" and len(before) == 1 and found.consumers(before[0]) == (node,):
            norm = model.get_submodule(node.target)
            assert isinstance(norm, nn.BatchNorm2d)
            norms[before[0].target] = norm
    return {node.target: norms.get(node.target) for node in found.nodes if _weighted(node)}


def _peaks(model: nn.Module, sample: Any) -> dict[str, int]:
    """Return the least power of two above the largest count that each layer reads, or 1."""
    largest: dict[str, float] = {}
    handles = []

    def hook(name: str) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].detach()
            whole = x.numel() > 0 and bool((x == x.round()).all()) and float(x.min()) >= 0
            largest[name] = float(x.max()) if whole else 1.0

        return note

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            handles.append(module.register_forward_pre_hook(hook(name)))
    try:
        reset_net(model)
        with torch.no_grad():
            model(*sample) if isinstance(sample, tuple) else model(sample)
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    return {name: 2 ** math.floor(math.log2(top) + 1) if top > 1 else 1 for name, top in largest.items()}


def _weighted(node: Node) -> bool:
    return node.kind == "module" and node.op in ("conv2d", "linear")


def _weight(layer: nn.Module) -> Tensor:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    return layer.weight


def _snap(name: str, layer: nn.Module, norm: nn.BatchNorm2d | None, peak: int, bits: int | None) -> int:
    assert isinstance(layer, nn.Conv2d | nn.Linear)
    weight, bias = layer.weight, layer.bias
    folded, shift = (weight, bias) if norm is None else fold_bn(weight, bias, norm)
    if bits is not None:
        folded = on_rows(folded, bits)
    step = _steps(name, folded, shift, peak)
    if bits is None:
        # One grid for all outputs; on rows' grids a sum of bytes is exact by itself.
        step = step.max().expand_as(step)
        folded = _grid(folded, step)
    shift = None if shift is None else _grid(shift, step)
    exponent = math.frexp(float(step.min()))[1] - 1
    weight.copy_(folded)
    if norm is None:
        if bias is not None and shift is not None:
            bias.copy_(shift)
        return exponent
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert shift is not None
    if bias is not None:
        bias.zero_()
    norm.weight.fill_(_SCALE)
    norm.running_var.fill_(_SCALE**2)
    norm.running_mean.zero_()
    norm.bias.copy_(shift)
    return exponent


def _steps(name: str, weight: Tensor, bias: Tensor | None, peak: int) -> Tensor:
    bound = peak * weight.half().double().flatten(1).abs().sum(1)
    if bias is not None:
        bound = bound + bias.half().double().abs()
    if not bool(torch.isfinite(bound).all()):
        raise ConfigError(f"{name} holds weights that float16 cannot; scale them down before they are made exact")
    return (power_above(bound) * 2.0**-_MANTISSA_BITS).clamp(min=_LEAST)


def _grid(x: Tensor, step: Tensor) -> Tensor:
    step = step.view(-1, *[1] * (x.ndim - 1))
    return (x.half().double() / step).round().mul(step).to(x.dtype)
