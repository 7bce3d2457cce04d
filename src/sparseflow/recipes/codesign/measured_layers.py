"""Which layers are measured, over shapes, precisions and shares that are kept, and the modules they stand for."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.nn.models.cmamba.args import ModelArgs
from sparseflow.nn.models.cmamba.blocks import CMambaBlock
from sparseflow.nn.models.cmamba.primitives import Float
from sparseflow.nn.models.convnets.blocks import ConvBlock
from sparseflow.nn.models.video_vit import VideoViTArgs
from sparseflow.nn.models.video_vit.blocks import Block, PatchEmbed

__all__ = ["SPACES", "Space", "built", "sampled", "unseen"]

_SHARES = (1.0, 1.0, 0.75, 0.5, 0.25)
_UNSEEN = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where layers are drawn from.

    Args:
        channels: widths of blocks.
        tokens: tokens of a sample.
        batches: samples.
        conv_channels: of convolutions.
        sides: of their outputs, in positions.
        precisions: with how often each is drawn.
        most_flops: of one layer, by precision.
        most_bytes: of its tensors.
        mix: how many of each kind in a hundred.
    """

    channels: tuple[int, ...]
    tokens: tuple[int, ...]
    batches: tuple[int, ...]
    conv_channels: tuple[int, ...]
    sides: tuple[int, ...]
    precisions: tuple[tuple[str, float], ...]
    most_flops: tuple[tuple[str, float], ...]
    most_bytes: float
    mix: tuple[tuple[str, int], ...] = (
        ("attn", 27), ("mlp", 26), ("conv", 20), ("scan", 12), ("patch_embed", 5), ("other", 10)
    )  # fmt: skip


SPACES = {
    "gpu": Space(
        channels=(128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536),
        tokens=(49, 64, 98, 128, 196, 256, 392, 512, 784, 1024, 1568, 2048),
        batches=(1, 2, 4, 8, 16, 32),
        conv_channels=(16, 32, 64, 96, 128, 192, 256, 384, 512),
        sides=(7, 8, 14, 16, 28, 32, 56, 64, 112),
        precisions=(("bfloat16", 0.6), ("float16", 0.15), ("float32", 0.25)),
        most_flops=(("bfloat16", 1e12), ("float16", 1e12), ("float32", 6e10)),
        most_bytes=2e9,
    ),
    "cpu": Space(
        channels=(64, 96, 128, 192, 256, 384, 512, 768),
        tokens=(16, 32, 49, 64, 98, 128, 196, 256, 392),
        batches=(1, 2, 4),
        conv_channels=(8, 16, 32, 64, 96, 128, 256, 512),
        sides=(4, 7, 8, 14, 16, 28, 32, 56),
        precisions=(("float32", 0.85), ("bfloat16", 0.15)),
        most_flops=(("float32", 2.5e9), ("bfloat16", 2.5e9)),
        most_bytes=6e7,
    ),
}
"""By kind of target."""


def unseen(layer: LayerSpec) -> bool:
    """Return whether a layer is kept for the test: one pair (C, L) of its kind in five, at every batch and share.

    The choice is a hash of kind, width and tokens, so that it is the same in every run.
    """
    digest = random.Random(f"{layer.kind} {layer.channels} {layer.tokens}").random()
    return digest < _UNSEEN


def sampled(space: Space, count: int, *, seed: int = 0) -> tuple[LayerSpec, ...]:
    """Return so many layers, all different; the first of them are spread as all are.

    Args:
        space: where they are drawn from.
        count: how many.
        seed: of the draw.

    Raises:
        ConfigError: `count` is below 1, or more than the space is found to hold.
    """
    if count < 1:
        raise ConfigError(f"count is {count}; expected at least 1")
    rng = random.Random(seed)
    kinds, parts = zip(*space.mix, strict=True)
    # Mixed kinds in every stretch: a run that ends early has measured them all.
    order = [k for kind, part in zip(kinds, parts, strict=True) for k in [kind] * part]
    found: dict[str, LayerSpec] = {}
    for _ in range(100 * count):
        if len(found) == count:
            break
        if len(found) % len(order) == 0:
            rng.shuffle(order)
        kind = order[len(found) % len(order)]
        layer = _DRAWS[kind](space, rng)
        limit = dict(space.most_flops)[layer.precision]
        if layer.flops <= limit and layer.activation_bytes + layer.weight_bytes <= space.most_bytes:
            name = _name(layer)
            found.setdefault(name, replace(layer, name=name))
    if len(found) < count:
        raise ConfigError(f"count is {count}, but only {len(found)} layers were found in this space; ask for fewer")
    return tuple(found.values())


def _name(s: LayerSpec) -> str:
    shares = "".join(
        f" {word}{value:.3g}"
        for word, value in (("t", s.keep_token), ("h", s.keep_head), ("c", s.keep_channel))
        if value != 1.0
    )
    more = "".join(f" {k}={v}" for k, v in s.attrs)
    heads = f" h{s.heads}" if s.heads else f" r{s.mlp_ratio:g}" if s.mlp_ratio else ""
    return f"{s.kind} B{s.batch} L{s.tokens} C{s.channels}{heads}{more}{shares} {s.precision}"


def _precision(space: Space, rng: random.Random) -> str:
    names, weights = zip(*space.precisions, strict=True)
    return str(rng.choices(names, weights)[0])


def _share(whole: int, rng: random.Random, step: int = 1) -> float:
    """Draw a share of `whole` that leaves a multiple of `step`, at least one."""
    return max(step, round(whole * rng.choice(_SHARES) / step) * step) / whole if whole > step else 1.0


def _block_sizes(space: Space, rng: random.Random) -> dict[str, Any]:
    tokens = rng.choice(space.tokens)
    return {
        "name": "", "tokens": tokens, "channels": rng.choice(space.channels), "batch": rng.choice(space.batches),
        "precision": _precision(space, rng), "keep_token": _share(tokens, rng),
    }  # fmt: skip


def _attn(space: Space, rng: random.Random) -> LayerSpec:
    sizes = _block_sizes(space, rng)
    heads = sizes["channels"] // rng.choice((64, 64, 64, 32))
    return LayerSpec(kind="attn", heads=heads, keep_head=_share(heads, rng), **sizes)


def _mlp(space: Space, rng: random.Random) -> LayerSpec:
    sizes = _block_sizes(space, rng)
    wide = rng.choice((4, 4, 4, 3, 2))
    share = _share(wide * sizes["channels"], rng, 16)
    return LayerSpec(kind="mlp", mlp_ratio=float(wide), keep_channel=share, **sizes)


def _conv(space: Space, rng: random.Random) -> LayerSpec:
    side, stride = rng.choice(space.sides), rng.choice((1, 1, 2))
    kernel = rng.choice((3, 3, 3, 1, 1, 7))
    inputs = 3 if kernel == 7 else rng.choice(space.conv_channels)
    outputs = 64 if kernel == 7 else rng.choice(space.conv_channels)
    attrs = {
        "in_channels": inputs, "in_tokens": (side * stride) ** 2, "residual": int(rng.random() < 0.3 and kernel == 3),
        "stride": stride, "taps": kernel**2,
    }  # fmt: skip
    return LayerSpec(
        name="", kind="conv", tokens=side**2, channels=outputs, batch=rng.choice(space.batches),
        precision=_precision(space, rng), keep_channel=_share(outputs, rng, 8), attrs=tuple(attrs.items()),
    )  # fmt: skip


def _scan(space: Space, rng: random.Random) -> LayerSpec:
    width = rng.choice([c for c in space.channels if c <= 512])
    series = rng.choice((7, 7, 8, 21, 24))
    attrs = {
        "inner": width * rng.choice((1, 1, 2)), "mixed": max(1, series // rng.choice((2, 8))),
        "rank": rng.choice((math.ceil(width / 16), 32)), "series": series, "state": 16,
    }  # fmt: skip
    return LayerSpec(
        name="", kind="scan", tokens=rng.choice((12, 24, 42, 64, 90, 128, 196)), channels=width,
        batch=series * rng.choice(space.batches), precision="float32", attrs=tuple(attrs.items()),
    )  # fmt: skip


def _patch_embed(space: Space, rng: random.Random) -> LayerSpec:
    side, times = rng.choice((4, 7, 8, 14, 16)), rng.choice((1, 1, 4, 8))
    patch = rng.choice((4, 8, 16))
    return LayerSpec(
        name="", kind="patch_embed", tokens=side**2 * times, channels=rng.choice(space.channels),
        batch=rng.choice(space.batches), precision=_precision(space, rng),
        attrs=(("in_features", 3 * patch**2), ("times", times)),
    )  # fmt: skip


def _other(space: Space, rng: random.Random) -> LayerSpec:
    tokens = rng.choice((1, 1, 7, 21, *space.tokens))
    sizes: dict[str, Any] = {
        "name": "", "tokens": tokens, "batch": rng.choice(space.batches), "precision": _precision(space, rng)
    }  # fmt: skip
    if rng.random() < 0.6:
        wide, width = rng.choice((*space.channels, 1536)), rng.choice((10, 96, 101, 192, 336, 1000, *space.channels))
        return LayerSpec(kind="other", channels=width, attrs=(("in_features", wide),), **sizes)
    width, op = rng.choice(space.channels), rng.choice(("layer_norm", "relu", "add"))
    reads = tokens * width * (2 if op == "add" else 1)
    flops = float(tokens * width * (8 if op == "layer_norm" else 1))
    return LayerSpec(kind="other", channels=width, attrs=(("flops", flops), ("op", op), ("reads", reads)), **sizes)


_DRAWS: dict[str, Callable[[Space, random.Random], LayerSpec]] = {
    "attn": _attn, "mlp": _mlp, "conv": _conv, "scan": _scan, "patch_embed": _patch_embed, "other": _other,
}  # fmt: skip


class _First(nn.Module):
    """A block of which only the tokens are wanted."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block(x)[0]
        return out


class _Conv(nn.Module):
    """A convolution with its norm and activation, and what is added before the activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, residual: bool) -> None:
        super().__init__()
        block = ConvBlock(inputs, outputs, kernel, stride=stride, groups=groups)
        self.conv, self.bn, self.relu = block[0], block[1], block[2]
        self.residual = residual

    def forward(self, x: Tensor, *more: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        out: Tensor = self.relu(y + more[0] if self.residual else y)
        return out


class _Pointwise(nn.Module):
    def __init__(self, op: str, width: int) -> None:
        super().__init__()
        self.norm: nn.Module | None = nn.LayerNorm(width) if op == "layer_norm" else None
        self.op = torch.relu if op == "relu" else torch.add

    def forward(self, *xs: Tensor) -> Tensor:
        out: Tensor = self.op(*xs) if self.norm is None else self.norm(*xs)
        return out


def built(layer: LayerSpec, device: torch.device) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Return a fresh module of a layer in eval mode, and inputs; what is not kept is truly cut away.

    Args:
        layer: what to build; its shares are numbers.
        device: where.
    """
    dtype = getattr(torch, layer.precision)
    with torch.device(device):
        module = _module(layer).to(dtype).eval()
        inputs = tuple(torch.randn(shape, dtype=dtype) for shape in _inputs(layer))
    if layer.kind == "conv" and device.type == "cuda":
        # The layout that cuDNN's half-precision kernels want; else each call converts twice.
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        inputs = tuple(x.to(memory_format=torch.channels_last) for x in inputs)
    return module, inputs


def _inputs(s: LayerSpec) -> tuple[tuple[int, ...], ...]:
    length = round(float(s.length))
    if s.kind in ("attn", "mlp"):
        return ((s.batch, length, s.channels),)
    if s.kind == "scan":
        return ((s.batch, s.tokens, s.channels),)
    if s.kind == "conv":
        side, out = math.isqrt(s.attr("in_tokens")), math.isqrt(s.tokens)
        first = (s.batch, s.attr("in_channels"), side, side)
        return (first, (s.batch, _kept(s), out, out)) if s.attr("residual", 0) else (first,)
    if s.kind == "patch_embed":
        args = _patches(s)
        return ((s.batch, args.num_frames, 3, args.img_size, args.img_size),)
    if s.attr("in_features"):
        return ((s.batch, length, s.attr("in_features")),)
    return ((s.batch, length, s.channels),) * (2 if s.attr("op") == "add" else 1)


def _kept(s: LayerSpec) -> int:
    return round(s.channels * float(s.keep_channel))


def _patches(s: LayerSpec) -> VideoViTArgs:
    times = s.attr("times", 1)
    patch, side = math.isqrt(s.attr("in_features") // 3), math.isqrt(s.tokens // times)
    return VideoViTArgs(
        img_size=patch * side, patch_size=patch, num_frames=times, embed_dim=s.channels, num_heads=1, depth=1
    )


def _module(s: LayerSpec) -> nn.Module:
    if s.kind == "attn":
        args = VideoViTArgs(embed_dim=s.channels, num_heads=s.heads, depth=1)
        return _First(Block(args, round(s.heads * float(s.keep_head)), 0))
    if s.kind == "mlp":
        args = VideoViTArgs(embed_dim=s.channels, num_heads=1, depth=1)
        return _First(Block(args, 0, round(float(s.hidden))))
    if s.kind == "conv":
        kernel = math.isqrt(s.attr("taps"))
        return _Conv(
            s.attr("in_channels"), _kept(s), kernel, s.attr("stride", 1), s.attr("groups", 1), bool(s.attr("residual"))
        )
    if s.kind == "scan":
        series, mixed = s.attr("series", 1), s.attr("mixed", 0)
        args_ = ModelArgs(
            d_model=s.channels, expand=s.attr("inner") / s.channels, d_state=s.attr("state"), dt_rank=s.attr("rank"),
            num_channels=series, reduction_ratio=series // mixed, bias=True,
        )  # fmt: skip
        return CMambaBlock(args_, Float())
    if s.kind == "patch_embed":
        return PatchEmbed(_patches(s))
    if s.attr("in_features"):
        return nn.Linear(s.attr("in_features"), s.channels)
    return _Pointwise(s.attr("op", "relu"), s.channels)
