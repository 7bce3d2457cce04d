"""Operations, parameters and tensors of every kind of layer, in plain arithmetic of numbers or of columns."""

from typing import Any, NamedTuple

__all__ = ["Costs", "Part", "Sizes", "costs", "parts"]


class Costs(NamedTuple):
    """Of one sample: operations, and numbers of parameters, of the input, between, and of the output."""

    flops: Any
    weights: Any
    inputs: Any
    between: Any
    outputs: Any


class Part(NamedTuple):
    """One operator of a layer on one sample: operations, parameters, and numbers read and written."""

    flops: Any
    weights: Any
    numbers: Any


class Sizes:
    """What follows from the sizes of a layer and the shares that are kept."""

    __slots__ = ()
    kind: Any
    tokens: Any
    channels: Any
    heads: Any
    mlp_ratio: Any
    keep_token: Any
    keep_head: Any
    keep_channel: Any

    def attr(self, name: str, default: Any = None) -> Any:
        """Return one attribute, or `default`."""
        raise NotImplementedError

    @property
    def head_dim(self) -> Any:
        """Width of one head: the attribute, or C / heads; 0 without heads."""
        own = self.attr("head_dim", 0)
        return own + (own == 0) * self.channels / (self.heads + (self.heads == 0)) * (self.heads > 0)

    @property
    def length(self) -> Any:
        """Tokens L of a sample that are left."""
        return self.tokens * self.keep_token

    @property
    def inner(self) -> Any:
        """Width E of all heads that are left."""
        return self.heads * self.head_dim * self.keep_head

    @property
    def hidden(self) -> Any:
        """Hidden width H that is left."""
        return self.mlp_ratio * self.channels * self.keep_channel


def costs(s: Sizes) -> Costs:
    """Return the costs of one sample of a layer, before keep_block."""
    return _COSTS[s.kind](s)


def parts(s: Sizes) -> tuple[Part, ...]:
    """Return the operators of a layer one by one, before keep_block; small ones have no operations that count."""
    return _PARTS[s.kind](s)


def _attn(s: Sizes) -> Costs:
    length, c, e = s.length, s.channels, s.inner
    flops = 8.0 * length * c * e + 4.0 * length * length * e
    return Costs(flops, 4.0 * c * e, length * c, length * (2.0 * c + 4.0 * e), length * c)


def _attn_parts(s: Sizes) -> tuple[Part, ...]:
    length, c, e = s.length, s.channels, s.inner
    return (
        Part(0.0, 0.0, 2.0 * length * c),
        Part(6.0 * length * c * e, 3.0 * c * e, length * (c + 3.0 * e)),
        Part(4.0 * length * length * e, 0.0, 4.0 * length * e),
        Part(2.0 * length * c * e, c * e, length * (c + e)),
        Part(0.0, 0.0, 3.0 * length * c),
    )


def _mlp(s: Sizes) -> Costs:
    length, c, hidden = s.length, s.channels, s.hidden
    return Costs(4.0 * length * c * hidden, 2.0 * c * hidden, length * c, length * (2.0 * c + 2.0 * hidden), length * c)


def _mlp_parts(s: Sizes) -> tuple[Part, ...]:
    length, c, hidden = s.length, s.channels, s.hidden
    product = Part(2.0 * length * c * hidden, c * hidden, length * (c + hidden))
    return (
        Part(0.0, 0.0, 2.0 * length * c), product, Part(0.0, 0.0, 2.0 * length * hidden), product,
        Part(0.0, 0.0, 3.0 * length * c),
    )  # fmt: skip


def _linear(s: Sizes) -> Costs:
    length, c, wide = s.length, s.channels, s.attr("in_features")
    return Costs(2.0 * length * c * wide, c * wide, length * wide, 0.0 * length, length * c)


def _linear_parts(s: Sizes) -> tuple[Part, ...]:
    c = _linear(s)
    product = Part(c.flops, c.weights, c.inputs + c.outputs)
    # Cutting a picture into patches is a copy.
    return (Part(0.0, 0.0, 2.0 * c.inputs), product) if s.kind == "patch_embed" else (product,)


def _conv(s: Sizes) -> Costs:
    out = s.channels * s.keep_channel
    weights = out * s.attr("in_channels") / s.attr("groups", 1) * s.attr("taps")
    outputs = s.length * out
    inputs = s.attr("in_tokens") * s.keep_token * s.attr("in_channels") + s.attr("residual", 0) * outputs
    return Costs(2.0 * s.length * weights, weights, inputs, outputs, outputs)


def _conv_parts(s: Sizes) -> tuple[Part, ...]:
    c = _conv(s)
    return (
        Part(c.flops, c.weights, c.inputs + c.outputs - s.attr("residual", 0) * c.outputs),
        Part(0.0, 0.0, 2.0 * c.outputs),
        Part(0.0, 0.0, 3.0 * s.attr("residual", 0) * c.outputs),
        Part(0.0, 0.0, 2.0 * c.outputs),
    )


def _scan(s: Sizes) -> Costs:
    c, made = s.channels, s.length * s.channels
    all_parts = _scan_parts(s)
    flops = sum(p.flops for p in all_parts)
    weights = sum(p.weights for p in all_parts)
    e, wide = s.attr("inner"), s.attr("rank") + 2.0 * s.attr("state") + s.attr("inner")
    between = s.length * (c + 5.0 * e + wide + 2.0 * c * (s.attr("mixed", 0) > 0))
    return Costs(flops, weights, made, between, made)


def _scan_parts(s: Sizes) -> tuple[Part, ...]:
    length, c = s.length, s.channels
    e, n, r = s.attr("inner"), s.attr("state"), s.attr("rank")
    mixed, series = s.attr("mixed", 0), s.attr("series", 1)
    wide = r + 2.0 * n + e
    return (
        Part(0.0, 0.0, 2.0 * length * c),
        Part(2.0 * length * c * 2.0 * e, 2.0 * c * e, length * (c + 2.0 * e)),
        Part(0.0, 0.0, 2.0 * length * e),
        Part(2.0 * length * e * wide, e * wide, length * (e + wide)),
        Part(2.0 * length * r * e, r * e, length * (r + e)),
        # As the operator counts itself: 7 N + 12 for each channel and step.
        Part((7.0 * n + 12.0) * length * e, 0.0, length * (5.0 * e + 2.0 * n)),
        Part(2.0 * length * e * c, e * c, length * (e + c)),
        # Mean and maximum of every token go through two products of two layers along the series, into a gate.
        Part(length * 16.0 * mixed, 4.0 * mixed * series, length * 5.0 * c * (mixed > 0)),
        Part(0.0, 0.0, 3.0 * length * c),
    )


def _other(s: Sizes) -> Costs:
    if s.attr("in_features") is not None:
        return _linear(s)
    outputs = s.length * s.channels
    reads = s.attr("reads", s.tokens * s.channels) * s.keep_token
    return Costs(s.attr("flops", 0.0) * s.keep_token, s.attr("weights", 0.0), reads, 0.0 * outputs, outputs)


def _other_parts(s: Sizes) -> tuple[Part, ...]:
    if s.attr("in_features") is not None:
        return _linear_parts(s)
    c = _other(s)
    # The operations of an operator without a product run beside its reads and writes.
    return (Part(0.0 * c.flops, c.weights, c.inputs + c.outputs),)


_COSTS = {"patch_embed": _linear, "attn": _attn, "mlp": _mlp, "conv": _conv, "scan": _scan, "other": _other}
_PARTS = {
    "patch_embed": _linear_parts, "attn": _attn_parts, "mlp": _mlp_parts, "conv": _conv_parts, "scan": _scan_parts,
    "other": _other_parts,
}  # fmt: skip
