"""VideoViT: a vision transformer whose blocks see all tokens of a clip, and which can leave tokens behind."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import DataError
from sparseflow.nn.models.video_vit.args import VideoViTArgs
from sparseflow.nn.models.video_vit.blocks import Block, PatchEmbed

__all__ = ["VideoViT"]


class VideoViT(nn.Module):
    """Classify clips: `[B, T, in_chans, H, W]` or `[B, in_chans, T, H, W]` → `[B, num_classes]`.

    Patches are embedded, get their positions, and pass `depth` blocks as one sequence of T·N tokens; their norm of the
    mean (or the class token's norm) is classified.

    Args:
        img_size: height and width of a frame, pixels.
        num_frames: frames T of a clip.
        num_classes: classes.
        embed_dim: width C of a token.
        depth: blocks D.
        num_heads: attention heads of a block.
        mlp_ratio: hidden width of an MLP over C.
        patch_size: side of a patch, pixels.
        in_chans: channels of a frame.
        drop_rate: share dropped behind the embedding and each projection in training.
        attn_drop: share of the attention weights dropped in training.
        drop_path_rate: share of samples that skip the last block in training, growing linearly over the blocks.
        tubelet_size: frames of one patch.
        pool: "mean" or "cls".
        positions: "factored" or "joint".
        norm_eps: ε under the root of a LayerNorm.
        block_heads: heads of each block of a sliced network.
        block_hidden: hidden width of each block of a sliced network.

    Raises:
        ConfigError: a size is out of range, or they do not fit each other.

    Source: Dosovitskiy et al., arXiv 2010.11929; joint space-time attention as ViViT, arXiv 2103.15691, model 1.

    >>> model = VideoViT(32, 4, 10, 48, 2, 3, 4.0, 16)
    >>> model(torch.zeros(2, 4, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        img_size: int,
        num_frames: int,
        num_classes: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        patch_size: int,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        attn_drop: float = 0.0,
        drop_path_rate: float = 0.0,
        *,
        tubelet_size: int = 1,
        pool: str = "mean",
        positions: str = "factored",
        norm_eps: float = 1e-6,
        block_heads: Sequence[int] | None = None,
        block_hidden: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.args = args = VideoViTArgs(
            img_size=img_size, num_frames=num_frames, num_classes=num_classes, embed_dim=embed_dim, depth=depth,
            num_heads=num_heads, mlp_ratio=mlp_ratio, patch_size=patch_size, in_chans=in_chans, drop_rate=drop_rate,
            attn_drop=attn_drop, drop_path_rate=drop_path_rate, tubelet_size=tubelet_size, pool=pool,
            positions=positions, norm_eps=norm_eps,
            block_heads=None if block_heads is None else tuple(block_heads),
            block_hidden=None if block_hidden is None else tuple(block_hidden),
        )  # fmt: skip
        width = args.embed_dim
        self.patch_embed = PatchEmbed(args)
        if args.positions == "factored":
            self.pos_embed = nn.Parameter(torch.zeros(1, args.num_patches, width))
            self.time_embed = nn.Parameter(torch.zeros(1, args.times, width))
        else:
            self.pos_embed = nn.Parameter(torch.zeros(1, args.tokens, width))
        if args.pool == "cls":
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_drop = nn.Dropout(args.drop_rate)
        self.blocks = nn.ModuleList(
            Block(args, args.heads[i], args.hidden[i], args.drop_path_rate * i / max(args.depth - 1, 1))
            for i in range(args.depth)
        )
        self.norm = nn.LayerNorm(width, args.norm_eps)
        self.head = nn.Linear(width, args.num_classes)
        self.apply(_initialise)
        for table in (getattr(self, name, None) for name in ("pos_embed", "time_embed", "cls_token")):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that build this network again, as JSON values."""
        return self.args.to_dict()

    def forward(self, x: Tensor, return_intermediate: bool = False) -> Any:
        """Return the logits `[B, num_classes]`, and with `return_intermediate` what was found on the way.

        Args:
            x: the clip in either layout; where T equals `in_chans`, it is taken as `[B, T, in_chans, H, W]`.
            return_intermediate: whether to return the pair of logits and info. info holds `token_feat` `[B, T, N, C]`,
                the tokens that scores are made of; `ast_stats`, the four sparsities as tensors; `L_AST`; `gates`;
                `kept` `[B, k]`, places in T·N of the tokens that reached the end, ascending, or None; and `score`
                `[B, T, N]` or None.

        Raises:
            DataError: the clip has another shape.
        """
        tokens = self.patch_embed(self._ordered(x))
        sequence = self._with_positions(tokens)
        for block in self.blocks:
            sequence, _ = block(sequence)
        pooled = sequence[:, 0] if self.args.pool == "cls" else sequence.mean(1)
        logits = self.head(self.norm(pooled))
        return (logits, self._dense_info(tokens)) if return_intermediate else logits

    def _ordered(self, x: Tensor) -> Tensor:
        """Return the clip as `[B, T, in_chans, H, W]`."""
        a = self.args
        if x.ndim == 5 and x.shape[3:] == (a.img_size, a.img_size):
            if x.shape[1:3] == (a.num_frames, a.in_chans):
                return x
            if x.shape[1:3] == (a.in_chans, a.num_frames):
                return x.transpose(1, 2)
        size = f"{a.img_size}, {a.img_size}]"
        raise DataError(
            f"the clip has shape {list(x.shape)}; expected [B, {a.num_frames}, {a.in_chans}, {size} or "
            f"[B, {a.in_chans}, {a.num_frames}, {size}"
        )

    def _with_positions(self, tokens: Tensor) -> Tensor:
        """Return `[B, T·N, C]` with positions, behind a class token if there is one."""
        if self.args.positions == "factored":
            x = (tokens + self.pos_embed[:, None] + self.time_embed[:, :, None]).flatten(1, 2)
        else:
            x = tokens.flatten(1, 2) + self.pos_embed
        if self.args.pool == "cls":
            x = torch.cat([self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1), x], 1)
        out: Tensor = self.pos_drop(x)
        return out

    @staticmethod
    def _dense_info(tokens: Tensor) -> Mapping[str, Any]:
        zero = tokens.new_zeros((), dtype=torch.float32)
        stats = {f"sparsity_{kind}": zero for kind in ("token", "head", "ch", "block")}
        return {"token_feat": tokens, "ast_stats": stats, "L_AST": zero, "gates": {}, "kept": None, "score": None}


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(module.out_channels, -1))
    if isinstance(module, nn.Linear | nn.Conv3d) and module.bias is not None:
        nn.init.zeros_(module.bias)
