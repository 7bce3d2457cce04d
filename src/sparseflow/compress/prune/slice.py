"""Slicing: a gated VideoViT becomes a plain, smaller one that computes the same."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.nn.models.video_vit.blocks import Block
from sparseflow.nn.prune import ASTPruner

__all__ = ["slice_model"]


@torch.no_grad()
def slice_model(model: VideoViT) -> VideoViT:
    """Take closed heads, channels and blocks out of a network, and multiply the factors of the others into its weights.

    The result equals the network after `model.pruner.harden()`, has no gates, and saves and loads like any VideoViT.
    It leaves tokens behind as before; learned shares become fixed ones.

    Args:
        model: a VideoViT; without gates a copy is returned. It is not changed.

    Returns:
        The smaller network, on the same device, in the same type and mode.

    Raises:
        ConfigError: a stage would follow the last block that is left, or tokens are chosen by attention ("evit",
            "tome") of heads or blocks that would be gone.
    """
    if model.pruner is None:
        return copy.deepcopy(model)
    pruner = copy.deepcopy(model.pruner)
    pruner.harden()
    if pruner.config.score in ("evit", "tome") and (pruner.head_gate or pruner.block_gate):
        raise ConfigError(
            f"score {pruner.config.score!r} reads the attention of all heads and blocks; slicing some would change "
            "what is kept. Prune with score 'entropy', or gate channels alone"
        )
    heads, channels, blocks = (
        w.detach().cpu() for w in (pruner.get_head_gates(), pruner.get_channel_gates(), pruner.get_block_gates())
    )
    left = [i for i, w in enumerate(blocks.tolist()) if w > 0]
    kept_heads = [heads[i].nonzero()[:, 0] if pruner.head_gate else torch.arange(model.args.heads[i]) for i in left]
    kept_channels = [
        channels[i].nonzero()[:, 0] if pruner.channel_gate else torch.arange(model.args.hidden[i]) for i in left
    ]
    small = VideoViT(
        **{
            **model.arguments,
            **_pruning(pruner, left),
            "depth": len(left),
            "block_heads": [len(k) for k in kept_heads],
            "block_hidden": [len(k) for k in kept_channels],
        }
    )
    small.to(model.head.weight.device, model.head.weight.dtype).train(model.training)
    _copy_all_but_blocks(model, small)
    for row, i in enumerate(left):
        factors = [
            None if gate is None else w[i][kept]
            for gate, w, kept in (
                (pruner.head_gate, heads, kept_heads[row]),
                (pruner.channel_gate, channels, kept_channels[row]),
            )
        ]
        old, new = model.blocks[i], small.blocks[row]
        assert isinstance(old, Block)
        assert isinstance(new, Block)
        _slice_block(old, new, kept_heads[row], kept_channels[row], factors, float(blocks[i]))
    return small


def _pruning(pruner: ASTPruner, left: list[int]) -> dict[str, Any]:
    """Return the arguments of what is left of the pruning: its stages, renumbered, without gates."""
    stages: dict[int, float] = {}
    for block, share in zip(pruner.stages, pruner.keeps().tolist(), strict=True):
        # Several stages may fall together; the last one keeps fewest.
        stages[sum(i < block for i in left)] = share
    if all(share == 1 for share in stages.values()):
        return {"use_ast_prune": False, "ast_cfg": None}
    if max(stages) >= len(left):
        raise ConfigError(
            f"tokens are left behind before block {max(pruner.stages)}, and no block from there on would stay; "
            "prune earlier or keep more blocks"
        )
    cfg = pruner.config.to_dict()
    for name in ("patch_grid_h", "patch_grid_w", "mlp_ratio"):
        del cfg[name]
    cfg.update(keep_schedule=stages, keep_head=1.0, keep_channel=1.0, keep_block=1.0, learn_keep=False)
    return {"use_ast_prune": True, "ast_cfg": cfg}


def _copy_all_but_blocks(model: VideoViT, small: VideoViT) -> None:
    own = small.state_dict()
    taken = {k: t for k, t in model.state_dict().items() if k in own and not k.startswith("blocks.")}
    small.load_state_dict(taken, strict=False)


def _slice_block(
    old: Block, new: Block, heads: Tensor, channels: Tensor, factors: list[Tensor | None], keep: float
) -> None:
    """Fill a block from one with more heads and channels.

    Args:
        old: block of the gated network.
        new: block of the sliced one.
        heads: heads to take.
        channels: hidden channels to take.
        factors: of these heads and of these channels, or None for 1.
        keep: factor of the block.
    """
    if len(heads):
        width = old.attn.head_dim
        inner = old.attn.proj.weight.shape[1]
        rows = (heads.unsqueeze(1) * width + torch.arange(width)).flatten()
        new.norm1.load_state_dict(old.norm1.state_dict())
        _take(old.attn.qkv, new.attn.qkv, rows=torch.cat([rows, rows + inner, rows + 2 * inner]))
        scale = None if factors[0] is None else factors[0].repeat_interleave(width)
        _take(old.attn.proj, new.attn.proj, columns=rows, column_scale=scale, scale=keep)
    if len(channels):
        new.norm2.load_state_dict(old.norm2.state_dict())
        _take(old.mlp.fc1, new.mlp.fc1, rows=channels)
        _take(old.mlp.fc2, new.mlp.fc2, columns=channels, column_scale=factors[1], scale=keep)


def _take(
    old: nn.Linear,
    new: nn.Linear,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
    column_scale: Tensor | None = None,
    scale: float = 1.0,
) -> None:
    """Copy rows and columns of a linear layer, columns and then everything scaled."""
    device = old.weight.device
    weight, bias = old.weight.double(), old.bias.double()
    if rows is not None:
        weight, bias = weight[rows.to(device)], bias[rows.to(device)]
    if columns is not None:
        weight = weight[:, columns.to(device)]
    if column_scale is not None:
        weight = weight * column_scale.to(weight)
    new.weight.copy_(weight * scale)
    new.bias.copy_(bias * scale)
