"""Operations, parameters and tensors of one sample for every kind of layer, in plain arithmetic."""

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from sparseflow.hardware.proxy.layer_spec import LayerSpec

__all__ = ["Costs", "costs"]


class Costs(NamedTuple):
    """Of one sample: operations, and numbers of parameters, of the input, between, and of the output."""

    flops: Any
    weights: Any
    inputs: Any
    between: Any
    outputs: Any


def costs(spec: "LayerSpec") -> Costs:
    """Return the costs of one sample of a layer, before keep_block."""
    return _COSTS[spec.kind](spec)


def _attn(s: "LayerSpec") -> Costs:
    length, c, e = s.length, s.channels, s.inner
    flops = 8.0 * length * c * e + 4.0 * length * length * e
    return Costs(flops, 4.0 * c * e, length * c, length * (2.0 * c + 4.0 * e), length * c)


def _mlp(s: "LayerSpec") -> Costs:
    length, c, hidden = s.length, s.channels, s.hidden
    return Costs(4.0 * length * c * hidden, 2.0 * c * hidden, length * c, length * (2.0 * c + 2.0 * hidden), length * c)


def _linear(s: "LayerSpec") -> Costs:
    length, c, wide = s.length, s.channels, s.attr("in_features")
    return Costs(2.0 * length * c * wide, c * wide, length * wide, 0.0, length * c)


def _conv(s: "LayerSpec") -> Costs:
    out = s.channels * s.keep_channel
    weights = out * s.attr("in_channels") / s.attr("groups", 1) * s.attr("taps")
    outputs = s.length * out
    inputs = s.attr("in_tokens") * s.keep_token * s.attr("in_channels") + s.attr("residual", 0) * outputs
    return Costs(2.0 * s.length * weights, weights, inputs, outputs, outputs)


def _scan(s: "LayerSpec") -> Costs:
    length, c = s.length, s.channels
    e, n, r = s.attr("inner"), s.attr("state"), s.attr("rank")
    mixed, series = s.attr("mixed", 0), s.attr("series", 1)
    steps = r + 2.0 * n + e
    weights = c * 2.0 * e + e * steps + r * e + e * c + 4.0 * mixed * series
    # Mean and maximum of every token go through two small products along the series.
    gate = length * 4.0 * 2.0 * 2.0 * mixed
    flops = 2.0 * length * (c * 2.0 * e + e * steps + r * e + e * c) + (7.0 * n + 12.0) * length * e + gate
    between = length * (c + 2.0 * e + e + steps + e + e + c + 2.0 * c * (mixed > 0))
    return Costs(flops, weights, length * c, between, length * c)


def _other(s: "LayerSpec") -> Costs:
    if s.attr("in_features"):
        return _linear(s)
    outputs = s.length * s.channels
    reads = s.attr("reads", s.tokens * s.channels) * s.keep_token
    return Costs(s.attr("flops", 0.0) * s.keep_token, s.attr("weights", 0.0), reads, 0.0, outputs)


_COSTS = {"patch_embed": _linear, "attn": _attn, "mlp": _mlp, "conv": _conv, "scan": _scan, "other": _other}
