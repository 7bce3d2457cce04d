"""Features of layers on a chip, and the time that no chip of these rates can beat; both carry gradients to shares."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy._kinds import Sizes, costs, parts
from sparseflow.hardware.proxy.layer_spec import KINDS, LayerSpec, element_bytes
from sparseflow.ir import Target

__all__ = ["FEATURES", "SEED_FEATURES", "Chip", "LayerTable", "Rates", "build_layer_features", "rates_of", "tabulate"]

SEED_FEATURES = (
    "log10 flops", "log10 bytes", "log10 peak_flops", "log10 peak_bw", "patch_embed", "attn", "mlp", "other",
    "channels/1024", "heads/16", "mlp_ratio/4", "tokens/1024", "half precision",
)  # fmt: skip
"""The thirteen of the design, in its order."""
_MORE = (
    "conv", "scan", "product", "bfloat16", "log2 rows", "log2 channels", "log2 wide", "log2 sequences",
    "log10 weights", "log10 roofline ms", "share of compute", "log2 tokens", "log2 in_features", "taps", "stride",
    "residual", "log2 groups", "log2 rank", "log2 series", "log2 mixed",
        "log2 head_dim", "log2 reads",
    "filled waves", "log2 tiles", "log2 inputs/outputs", "log2 weights/outputs",
    "log2 operations a number", "reduction",
)  # fmt: skip
FEATURES = SEED_FEATURES + _MORE
"""All that a proxy reads: the design's, and sizes on which utilisation turns."""

_NUMBERS = (
    "tokens",
    "channels",
    "heads",
    "mlp_ratio",
    "batch",
    "keep_token",
    "keep_head",
    "keep_channel",
    "keep_block",
)
_REDUCTIONS = ("layer_norm", "rms_norm", "group_norm", "softmax", "mean", "max", "sum", "adaptive_avg_pool2d")
_TILE = 128.0


class Chip(Protocol):
    """A device with one peak rate for one precision, as a type of chiplet."""

    @property
    def peak_flops_per_s(self) -> float:
        """Peak rate at `precision`."""
        ...

    @property
    def peak_bw_bytes_per_s(self) -> float:
        """Bandwidth of its memory."""
        ...

    @property
    def precision(self) -> str:
        """Precision of the peak."""
        ...


class Rates(NamedTuple):
    """What a chip does at best in a second, at one precision."""

    flops_per_s: float
    bytes_per_s: float


def rates_of(chip: Chip | Target, precision: str) -> Rates:
    """Return the peak rates of a chip at a precision; one that it does not state follows from the width of numbers.

    Half the bytes of a number double the rate of a unit.

    Raises:
        ConfigError: unknown precision.

    >>> from sparseflow.hardware.target_file import load_target
    >>> rates_of(load_target("h200"), "bfloat16")
    Rates(flops_per_s=989000000000000.0, bytes_per_s=4800000000000.0)
    """
    if isinstance(chip, Target):
        known, bandwidth = dict(chip.peak_flops_per_s), chip.bw_bytes_per_s
    else:
        known, bandwidth = {chip.precision: chip.peak_flops_per_s}, chip.peak_bw_bytes_per_s
    if precision not in known:
        wanted = element_bytes(precision)
        stated = min((p for p in known if p != "tensorfloat32"), key=lambda p: abs(element_bytes(p) - wanted))
        return Rates(known[stated] * element_bytes(stated) / wanted, bandwidth)
    return Rates(known[precision], bandwidth)


class LayerTable(NamedTuple):
    """Layers as columns; row i is layer i.

    Args:
        features: `[n, F]`, in the order of `FEATURES`.
        roofline_ms: `[n]`, Σ over operators of the larger of its arithmetic at the peak and its bytes at the bandwidth.
        weight_mb: `[n]`, parameters.
        ends_mb: `[n]`, input and output.
        between_mb: `[n]`, tensors between them.
        keep: `[n]`, keep_block: what a layer that runs costs is expected with this chance.
    """

    features: Tensor
    roofline_ms: Tensor
    weight_mb: Tensor
    ends_mb: Tensor
    between_mb: Tensor
    keep: Tensor


def build_layer_features(layer: LayerSpec, chip: Chip | Target) -> Tensor:
    """Return the features `[F]` of one layer, the design's thirteen first.

    Args:
        layer: any; shares that are tensors carry gradients.
        chip: where it would run.
    """
    return tabulate([layer], chip).features[0]


def tabulate(layers: Sequence[LayerSpec], chip: Chip | Target) -> LayerTable:
    """Return features and bounds of many layers at once.

    Args:
        layers: at least one.
        chip: where they would run.

    Raises:
        ConfigError: no layer.
    """
    if not layers:
        raise ConfigError("there is no layer to look at; give at least one")
    groups: dict[tuple[str, bool], list[int]] = {}
    for i, layer in enumerate(layers):
        groups.setdefault((layer.kind, layer.attr("in_features") is not None), []).append(i)
    pieces = [_group(_Stack([layers[i] for i in places]), chip) for places in groups.values()]
    order = torch.tensor([i for places in groups.values() for i in places])
    back = torch.argsort(order)
    return LayerTable(*(torch.cat(column)[back] for column in zip(*pieces, strict=True)))


class _Stack(Sizes):
    """Layers of one kind as one, whose sizes are columns."""

    def __init__(self, layers: Sequence[LayerSpec]) -> None:
        self.layers = layers
        self.kind = layers[0].kind
        for name in _NUMBERS:
            setattr(self, name, _column([getattr(s, name) for s in layers]))
        self.element_bytes = _column([element_bytes(s.precision) for s in layers])
        self._attrs = [dict(s.attrs) for s in layers]

    def attr(self, name: str, default: Any = None) -> Any:
        each = default if isinstance(default, Tensor) else [default] * len(self._attrs)
        found = [a.get(name, own) for a, own in zip(self._attrs, each, strict=True)]
        return None if any(x is None for x in found) else _column(found)

    def size(self, name: str) -> Tensor:
        """Return an attribute, 1 where there is none."""
        found: Tensor = self.attr(name, 1)
        return found


def _column(values: Sequence[Any]) -> Tensor:
    if any(isinstance(v, Tensor) for v in values):
        return torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in values])
    return torch.tensor([float(v) for v in values], dtype=torch.float64)


def _group(s: Any, chip: Chip | Target) -> LayerTable:
    rates = [rates_of(chip, layer.precision) for layer in s.layers]
    peak, bandwidth = _column([r.flops_per_s for r in rates]), _column([r.bytes_per_s for r in rates])
    whole = costs(s)
    size = s.element_bytes / 1e6
    compute_s = moving_s = roofline_s = torch.zeros_like(s.tokens)
    for part in parts(s):
        work = part.flops * s.batch / peak
        move = s.element_bytes * (part.weights + s.batch * part.numbers) / bandwidth
        compute_s, moving_s, roofline_s = compute_s + work, moving_s + move, roofline_s + torch.maximum(work, move)
    table = {
        "roofline_ms": 1e3 * roofline_s,
        "weight_mb": size * whole.weights + torch.zeros_like(s.tokens),
        "ends_mb": size * s.batch * (whole.inputs + whole.outputs),
        "between_mb": size * s.batch * whole.between,
        "keep": s.keep_block,
    }
    share = compute_s / (compute_s + moving_s)
    features = _features(s, whole, peak, bandwidth, table["roofline_ms"], share)
    return LayerTable(features=features, **table)


def _features(s: Any, whole: Any, peak: Tensor, bandwidth: Tensor, roofline_ms: Tensor, share: Tensor) -> Tensor:
    none = torch.zeros_like(s.tokens)
    rows = s.length * s.batch
    wide = {"attn": s.inner, "mlp": s.hidden, "conv": s.channels * s.keep_channel}.get(s.kind)
    wide = s.size("inner") if wide is None and s.kind == "scan" else s.channels + none if wide is None else wide
    moved = s.element_bytes * (whole.weights + s.batch * (whole.inputs + 2.0 * whole.between + whole.outputs))
    product = s.kind == "patch_embed" or s.attr("in_features") is not None
    precisions = [layer.precision for layer in s.layers]
    half = _column([p in ("float16", "bfloat16") for p in precisions])
    tiles = torch.ceil(rows / _TILE) * torch.ceil(wide / _TILE)
    waves = tiles / _PROCESSORS
    values = {
        "log10 flops": _log10(s.batch * whole.flops), "log10 bytes": _log10(moved),
        "log10 peak_flops": _log10(peak), "log10 peak_bw": _log10(bandwidth),
        **{kind: none + float(s.kind == kind) for kind in KINDS},
        "channels/1024": s.channels / 1024, "heads/16": s.heads * s.keep_head / 16,
        "mlp_ratio/4": s.mlp_ratio * s.keep_channel / 4 if s.kind == "mlp" else none,
        "tokens/1024": s.length / 1024, "half precision": half,
        "product": none + float(product), "bfloat16": _column([p == "bfloat16" for p in precisions]),
        "log2 rows": _log2(rows), "log2 channels": _log2(s.channels), "log2 wide": _log2(wide),
        "log2 sequences": _log2(s.batch * torch.clamp(s.heads * s.keep_head, min=1.0)),
        "log10 weights": _log10(s.element_bytes * whole.weights + none),
        "log10 roofline ms": torch.log10(roofline_ms + 1e-9), "share of compute": share, "log2 tokens": _log2(s.length),
        "log2 in_features": _log2(s.size("in_features") * s.size("in_channels")), "taps": s.size("taps") / 9,
        "stride": s.size("stride") / 2, "residual": s.attr("residual", 0), "log2 groups": _log2(s.size("groups")),
        "log2 rank": _log2(s.size("rank")), "log2 series": _log2(s.size("series")),
        "log2 mixed": _log2(s.attr("mixed", 0)), "log2 head_dim": _log2(s.head_dim),
        "log2 reads": _log2(s.batch * whole.inputs / s.tokens),
        "filled waves": waves / torch.ceil(waves), "log2 tiles": _log2(tiles),
        "log2 operations a number": _log2(whole.flops / (whole.inputs + whole.outputs)),
        "reduction": _column([layer.attr("op") in _REDUCTIONS for layer in s.layers]),
        "log2 inputs/outputs": _log2(s.batch * whole.inputs) - _log2(s.batch * whole.outputs),
        "log2 weights/outputs": _log2(whole.weights + none) - _log2(s.batch * whole.outputs),
    }  # fmt: skip
    return torch.stack([values[name] + none for name in FEATURES], -1)


_PROCESSORS = 132.0


def _log10(x: Tensor) -> Tensor:
    return torch.log10(x + 1.0)


def _log2(x: Tensor) -> Tensor:
    return torch.log2(x + 1.0)
