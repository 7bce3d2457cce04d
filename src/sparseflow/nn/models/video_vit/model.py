"""VideoViT: a vision transformer whose blocks see all tokens of a clip, and which can leave tokens behind."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError, DataError
from sparseflow.nn.models.video_vit.args import VideoViTArgs
from sparseflow.nn.models.video_vit.blocks import Block, PatchEmbed
from sparseflow.nn.models.video_vit.cost import block_flops
from sparseflow.nn.prune import ASTPruner, Tokens
from sparseflow.nn.prune.loss import KINDS

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
        use_ast_prune: whether tokens, heads, channels and blocks are pruned.
        ast_cfg: how, see `sparseflow.nn.prune.PruneConfig`; its defaults if None.
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
        use_ast_prune: bool = False,
        ast_cfg: Mapping[str, Any] | None = None,
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
        self.pruner = self._pruner(ast_cfg or {}) if use_ast_prune else None
        self.apply(_initialise)
        for table in (getattr(self, name, None) for name in ("pos_embed", "time_embed", "cls_token")):
            if table is not None:
                nn.init.trunc_normal_(table, std=0.02)

    def _pruner(self, cfg: Mapping[str, Any]) -> ASTPruner:
        a = self.args
        own = {"patch_grid_h": a.grid[0], "patch_grid_w": a.grid[1], "mlp_ratio": a.mlp_ratio}
        pruner = ASTPruner({**cfg, **own}, a.embed_dim, a.num_heads, a.depth, a.num_patches)
        if (pruner.head_gate and a.block_heads) or (pruner.channel_gate and a.block_hidden):
            raise ConfigError("a sliced network has heads and channels of several counts; its ast_cfg cannot gate them")
        return pruner

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments that build this network again, as JSON values."""
        found = {**self.args.to_dict(), "use_ast_prune": self.pruner is not None}
        return found if self.pruner is None else {**found, "ast_cfg": self.pruner.config.to_dict()}

    def forward(self, x: Tensor, return_intermediate: bool = False) -> Any:
        """Return the logits `[B, num_classes]`, and with `return_intermediate` what was found on the way.

        Args:
            x: the clip in either layout; where T equals `in_chans`, it is taken as `[B, T, in_chans, H, W]`.
            return_intermediate: whether to return the pair of logits and info. info holds `token_feat` `[B, T, N, C]`,
                the tokens that scores are made of; `ast_stats`, the four sparsities as tensors; `L_AST`; `gates`, the
                factors by kind; `kept` `[B, k]`, places in T·N of the tokens that reached the end, ascending, or None;
                `score` `[B, T, N]` or None; and `flops` `[D]` of each block for one clip, differentiable in what is
                learned.

        Raises:
            DataError: the clip has another shape.
        """
        features = self.patch_embed(self._ordered(x))
        gates = {} if self.pruner is None else self.pruner.gates()
        tokens, score, weights, features = self._blocks(features, gates)
        logits = self.head(self.norm(tokens))
        if not return_intermediate:
            return logits
        return logits, {"token_feat": features, "score": score, **self._info(weights, gates)}

    def _blocks(
        self, features: Tensor, gates: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor | None, list[Tokens], Tensor]:
        """Run the blocks.

        Returns:
            What is classified `[B, C]`; the score `[B, T, N]`; the tokens without their values that each block saw;
            and what the score was made of.
        """
        pruner, a, score = self.pruner, self.args, None
        first, x = self._with_positions(features)
        state, seen, log = Tokens(x=x), None, []
        for i, block in enumerate(self.blocks):
            if pruner is not None and pruner.acts(i):
                if pruner.scored and score is None:
                    if pruner.config.features == "tokens":
                        features = state.x.view(*features.shape[:3], -1)
                    score = pruner.token_score(features)
                    state = state._replace(score=None if score is None else pruner.lifted(score))
                state = pruner.reduce(state, i, a.tokens, seen, first is not None)
            bias = state.log_weight
            if bias is not None and first is not None:
                bias = nn.functional.pad(bias, (1, 0))
            sequence = state.x if first is None else torch.cat([first, state.x], 1)
            sequence, seen = block(
                sequence,
                bias,
                head=gates["head"][i] if "head" in gates else None,
                channel=gates["ch"][i] if "ch" in gates else None,
                block=gates["block"][i] if "block" in gates else None,
                look=pruner is not None and pruner.looks(i + 1),
            )
            if first is not None:
                first, sequence = sequence[:, :1], sequence[:, 1:]
            state = state._replace(x=sequence)
            # Of no width, and no view, which would keep the memory of every block's tokens.
            log.append(state._replace(x=sequence.new_empty(*sequence.shape[:2], 0)))
        return (_mean(state) if first is None else first[:, 0]), score, log, features

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

    def _with_positions(self, tokens: Tensor) -> tuple[Tensor | None, Tensor]:
        """Return the class token `[B, 1, C]` or None, and `[B, T·N, C]` with positions."""
        if self.args.positions == "factored":
            x = (tokens + self.pos_embed[:, None] + self.time_embed[:, :, None]).flatten(1, 2)
        else:
            x = tokens.flatten(1, 2) + self.pos_embed
        first = None
        if self.args.pool == "cls":
            first = self.pos_drop(self.cls_token.to(x.dtype).expand(x.shape[0], -1, -1))
        return first, self.pos_drop(x)

    def _info(self, log: Sequence[Tokens], gates: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what `forward` says beside the logits, of the tokens that each block saw."""
        a, pruner, last = self.args, self.pruner, log[-1]
        shares = [_share(tokens, a.tokens) for tokens in log]
        sparsity = {kind: 1 - gates[kind].mean() if kind in gates else shares[-1].new_zeros(()) for kind in KINDS[1:]}
        sparsity["token"] = 1 - shares[-1]
        if pruner is not None and pruner.keep_logits is not None:
            sparsity["token"] = 1 - pruner.keeps().mean()
        loss = shares[-1].new_zeros(())
        if pruner is not None:
            loss = pruner.compute_L_AST(*(sparsity[kind] for kind in KINDS))
        kept = last.position
        if kept is None and last.log_weight is not None and pruner is not None and not pruner.soft:
            # Hidden, not left behind: all samples hide equally many.
            kept = last.log_weight.isfinite().nonzero()[:, 1].view(last.log_weight.shape[0], -1)
        flops = [
            block_flops(
                a, i, share * a.tokens, keep=gates["block"][i] if "block" in gates else 1.0,
                head=gates["head"][i].mean() if "head" in gates else 1.0,
                channel=gates["ch"][i].mean() if "ch" in gates else 1.0,
            )
            for i, share in enumerate(shares)
        ]  # fmt: skip
        return {
            "ast_stats": {f"sparsity_{kind}": sparsity[kind] for kind in KINDS},
            "L_AST": loss,
            "gates": dict(gates),
            "kept": None if kept is None else kept.sort(dim=1).values,
            "flops": torch.stack(flops),
        }


def _mean(tokens: Tokens) -> Tensor:
    """Return the mean of the tokens by their weights, `[B, C]`."""
    if tokens.log_weight is None:
        return tokens.x.mean(1)
    weight = torch.softmax(tokens.log_weight.float(), 1).to(tokens.x.dtype)
    return (weight.unsqueeze(1) @ tokens.x).squeeze(1)


def _share(tokens: Tokens, total: int) -> Tensor:
    """Return the share of all tokens that counts, without dimensions; merged tokens count once."""
    if tokens.log_weight is not None and tokens.position is None:
        return tokens.log_weight.float().exp().mean()
    return tokens.x.new_full((), tokens.x.shape[1] / total, dtype=torch.float32)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
    elif isinstance(module, nn.Conv3d):
        nn.init.xavier_uniform_(module.weight.view(module.out_channels, -1))
    if isinstance(module, nn.Linear | nn.Conv3d) and module.bias is not None:
        nn.init.zeros_(module.bias)
