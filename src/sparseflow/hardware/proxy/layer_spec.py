"""A layer as a cost model sees it: sizes, shares that are kept, and what they cost, in plain arithmetic."""

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy._kinds import Sizes, costs

__all__ = ["KINDS", "LayerSpec", "Scalar", "element_bytes"]

Scalar: TypeAlias = float | Tensor
KINDS = ("patch_embed", "attn", "mlp", "conv", "scan", "other")
_KEEPS = ("keep_token", "keep_head", "keep_channel", "keep_block")
_ELEMENT_BYTES = {"float32": 4.0, "tensorfloat32": 4.0, "float16": 2.0, "bfloat16": 2.0, "int8": 1.0}


def element_bytes(precision: str) -> float:
    """Return the bytes of one stored number.

    Raises:
        ConfigError: unknown precision.

    >>> element_bytes("bfloat16")
    2.0
    """
    if precision not in _ELEMENT_BYTES:
        raise ConfigError(f"precision is {precision!r}; expected one of {', '.join(_ELEMENT_BYTES)}")
    return _ELEMENT_BYTES[precision]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSpec(Sizes):
    """One layer of a network: a half of a transformer block, a convolution, a block with a scan, a matrix product.

    With L = tokens·keep_token, C channels, E = heads·head_dim·keep_head, H = mlp_ratio·C·keep_channel, a layer of

    * `patch_embed` is a matrix product, `in_features` → C;
    * `attn` is x + proj(attention(qkv(norm x))), C → 3E → E → C;
    * `mlp` is x + fc2(gelu(fc1(norm x))), C → H → C;
    * `conv` is norm and activation of a convolution, `in_channels` → C·keep_channel by `taps` in `groups`, at L
      output positions of `in_tokens` positions, `residual` added where it is 1;
    * `scan` is x + out(scan(in(norm x))), with `inner` channels of `state` states, steps of rank `rank`, and over
      `series` series (of which batch is a multiple) a gate of hidden width `mixed`;
    * `other` is a matrix product `in_features` → C where it has that attribute; else an operator of `flops` on one
      sample that reads `reads` numbers of it (L·C unless given) and has `weights` parameters.

    Every figure is for the whole batch, and times keep_block: what is expected where a block runs with that chance.
    Shares may be tensors, of any common shape; then so are the figures, and they carry gradients.

    Args:
        name: of the layer, as in the network.
        kind: one of `KINDS`.
        tokens: L of one sample before pruning; output positions of a convolution.
        channels: C, of the output.
        heads: heads before pruning ("attn").
        mlp_ratio: hidden width over C before pruning ("mlp").
        batch: samples.
        precision: of weights and activations, as "bfloat16".
        keep_token: share of the tokens that are left.
        keep_head: share of the heads.
        keep_channel: share of the hidden channels ("mlp") or output channels ("conv").
        keep_block: chance that the layer runs.
        attrs: further sizes by name, as `("in_features", 768)`.

    Raises:
        ConfigError: unknown kind or precision, a size below 1, a size that the kind needs and that lacks, or a
            number for a share outside 0..1.

    >>> layer = LayerSpec(name="blocks.0.attn", kind="attn", tokens=196, channels=768, heads=12)
    >>> layer.flops == 8 * 196 * 768**2 + 4 * 196**2 * 768
    True
    """

    name: str
    kind: str
    tokens: int
    channels: int
    heads: int = 0
    mlp_ratio: float = 0.0
    batch: int = 1
    precision: str = "float32"
    keep_token: Scalar = 1.0
    keep_head: Scalar = 1.0
    keep_channel: Scalar = 1.0
    keep_block: Scalar = 1.0
    attrs: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Check the fields."""
        where = f"layer {self.name!r}"
        if self.kind not in KINDS:
            raise ConfigError(f"{where} has kind {self.kind!r}; expected one of {', '.join(KINDS)}")
        element_bytes(self.precision)
        needed = {"attn": ("heads",), "mlp": ("mlp_ratio",)}.get(self.kind, ())
        for size in ("tokens", "channels", "batch", *needed):
            if not 0 < getattr(self, size) < math.inf:
                raise ConfigError(f"{where} has {size}={getattr(self, size)}; expected more than 0")
        for size in _NEEDED_ATTRS.get(self.kind, ()):
            if not self.attr(size, 0) > 0:
                raise ConfigError(f"{where} of kind {self.kind!r} needs the attribute {size!r}, more than 0")
        for share in _KEEPS:
            value = getattr(self, share)
            if not isinstance(value, Tensor) and not 0 <= value <= 1:
                raise ConfigError(f"{where} has {share}={value}; expected 0 to 1")

    def attr(self, name: str, default: Any = None) -> Any:
        """Return one attribute, or `default`."""
        return dict(self.attrs).get(name, default)

    @property
    def flops(self) -> Scalar:
        """Operations of the batch, a multiply-add counted as two: 8LCE/C·C + 4L²E ("attn"), 4LCH ("mlp") and so on."""
        flops: Scalar = self.keep_block * self.batch * costs(self).flops
        return flops

    @property
    def weight_bytes(self) -> Scalar:
        """Bytes of the parameters."""
        weights: Scalar = self.keep_block * element_bytes(self.precision) * costs(self).weights
        return weights

    @property
    def activation_bytes(self) -> Scalar:
        """Bytes of all tensors that the layer reads and makes, input and output among them, each counted once."""
        c = costs(self)
        tensors: Scalar = c.inputs + c.between + c.outputs
        return self.keep_block * element_bytes(self.precision) * self.batch * tensors

    @property
    def output_bytes(self) -> Scalar:
        """Bytes that go on to the next layer; a layer that is dropped passes its input on."""
        outputs: Scalar = costs(self).outputs
        return element_bytes(self.precision) * self.batch * outputs

    @property
    def bytes(self) -> Scalar:
        """Bytes moved: parameters and input read, output written, tensors between written and read."""
        c = costs(self)
        tensors: Scalar = c.inputs + 2.0 * c.between + c.outputs
        return self.weight_bytes + self.keep_block * element_bytes(self.precision) * self.batch * tensors


_NEEDED_ATTRS = {
    "patch_embed": ("in_features",),
    "conv": ("in_channels", "taps", "in_tokens"),
    "scan": ("inner", "state", "rank"),
}
