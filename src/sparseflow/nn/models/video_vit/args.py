"""Sizes of a VideoViT: the seed's arguments, checked, and the sizes of a sliced network beside them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["POOLS", "POSITIONS", "VideoViTArgs"]

POOLS = ("mean", "cls")
POSITIONS = ("factored", "joint")

_COUNTS = (
    "img_size", "num_frames", "num_classes", "embed_dim", "depth", "num_heads", "patch_size", "in_chans",
    "tubelet_size",
)  # fmt: skip
_SHARES = ("drop_rate", "attn_drop", "drop_path_rate")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoViTArgs:
    """Sizes of a VideoViT that maps `[B, T, in_chans, img_size, img_size]` to `[B, num_classes]`.

    Args:
        img_size: height and width of a frame, pixels.
        num_frames: frames T of a clip.
        num_classes: classes.
        embed_dim: width C of a token.
        depth: blocks D.
        num_heads: attention heads of a block before slicing; a head is C / num_heads wide.
        mlp_ratio: hidden width of an MLP over C, before slicing.
        patch_size: side of a patch, pixels.
        in_chans: channels of a frame.
        drop_rate: share dropped behind the embedding and each projection in training.
        attn_drop: share of the attention weights dropped in training.
        drop_path_rate: share of samples whose last block is skipped in training; grows linearly from 0 over the blocks.
        tubelet_size: frames of one patch; 2 in VideoMAE. T is a multiple of it.
        pool: "mean" of the tokens, or "cls": a class token, as in image transformers.
        positions: "factored", one table a frame's patch and one a time; or "joint", one for each of the T·N tokens.
        norm_eps: ε under the root of a LayerNorm.
        block_heads: heads of each block of a sliced network; 0 leaves the attention out; None is `num_heads` in each.
        block_hidden: hidden width of each block's MLP likewise; None is ⌊mlp_ratio·C⌋ in each.

    Raises:
        ConfigError: a field is out of range, or they do not fit each other; names it.

    >>> args = VideoViTArgs(img_size=224, num_frames=8, num_classes=101, embed_dim=768, depth=12, num_heads=12)
    >>> args.grid, args.num_patches, args.tokens, args.head_dim
    ((14, 14), 196, 1568, 64)
    """

    img_size: int = 224
    num_frames: int = 8
    num_classes: int = 101
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    patch_size: int = 16
    in_chans: int = 3
    drop_rate: float = 0.0
    attn_drop: float = 0.0
    drop_path_rate: float = 0.0
    tubelet_size: int = 1
    pool: str = "mean"
    positions: str = "factored"
    norm_eps: float = 1e-6
    block_heads: tuple[int, ...] | None = None
    block_hidden: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        for name in _COUNTS:
            value = getattr(self, name)
            if not _whole(value) or value < 1:
                raise ConfigError(f"{name} is {value!r}; expected a whole number of at least 1")
        for name in _SHARES:
            value = getattr(self, name)
            if not _number(value) or not 0 <= value < 1:
                raise ConfigError(f"{name} is {value!r}; expected a share from 0 to below 1")
        for name in ("mlp_ratio", "norm_eps"):
            value = getattr(self, name)
            if not _number(value) or not 0 < value < math.inf:
                raise ConfigError(f"{name} is {value!r}; expected a number above 0")
        for name, known in (("pool", POOLS), ("positions", POSITIONS)):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        for whole, part in (
            ("img_size", "patch_size"), ("num_frames", "tubelet_size"), ("embed_dim", "num_heads")
        ):  # fmt: skip
            if getattr(self, whole) % getattr(self, part):
                raise ConfigError(
                    f"{whole} is {getattr(self, whole)}, no multiple of {part} {getattr(self, part)}; change either"
                )
        for name in ("block_heads", "block_hidden"):
            object.__setattr__(self, name, _checked_blocks(name, getattr(self, name), self.depth))

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of a frame, H_p down and W_p across."""
        side = self.img_size // self.patch_size
        return side, side

    @property
    def num_patches(self) -> int:
        """Patches N = H_p·W_p of a frame."""
        return self.grid[0] * self.grid[1]

    @property
    def times(self) -> int:
        """Times of the token grid, T / tubelet_size."""
        return self.num_frames // self.tubelet_size

    @property
    def tokens(self) -> int:
        """Tokens T·N of a clip, without a class token."""
        return self.times * self.num_patches

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.embed_dim // self.num_heads

    @property
    def heads(self) -> tuple[int, ...]:
        """Heads of each block."""
        return self.block_heads or (self.num_heads,) * self.depth

    @property
    def hidden(self) -> tuple[int, ...]:
        """Hidden width of each block's MLP."""
        return self.block_hidden or (int(self.mlp_ratio * self.embed_dim),) * self.depth

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; `from_dict` takes them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "VideoViTArgs":
        """Return the sizes of a mapping.

        Raises:
            ConfigError: unknown names, or a field out of range.
        """
        known = {f.name for f in fields(cls)}
        if unknown := [str(name) for name in values if name not in known]:
            raise ConfigError(f"unknown fields {', '.join(unknown)} of VideoViTArgs; known: {', '.join(sorted(known))}")
        return cls(**values)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked_blocks(name: str, value: Sequence[int] | None, depth: int) -> tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence) or len(value) != depth:
        raise ConfigError(f"{name} is {value!r}; expected {depth} whole numbers, one for each block")
    if bad := [n for n in value if not _whole(n) or n < 0]:
        raise ConfigError(f"{name} holds {bad[0]!r}; expected whole numbers of at least 0")
    return tuple(value)
