"""Slice a trained video transformer: closed heads, channels and blocks are taken out, and nothing else changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.prune import slice_model
from sparseflow.errors import ConfigError
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.checks import Check, checks_body
from sparseflow.recipes.video.checkpoint import load_trained, save_trained

__all__ = ["SAME", "slice_video"]

SAME = 1e-4
"""Largest difference of a logit between the gated network and the sliced one."""
_NEAR = 0.02


@torch.no_grad()
def slice_video(path: str, out: str | Path, *, clips: int = 8, seed: int = 0) -> dict[str, Any]:
    """Write the sliced network of a checkpoint, and compare it with the gated one on random clips.

    Args:
        path: a file of `train_video` whose pruner has gates.
        out: the new file.
        clips: to compare on, in float64, where the two choose the same tokens.
        seed: of the clips.

    Returns:
        Checks: the sliced network answers as the gated one, and each kind of gate kept its target; parameters and
        operations before and after; the new file.

    Raises:
        ConfigError: nothing is gated, or nothing would be left to prune.
        DataError: the checkpoint cannot be read, or the new file not written.
    """
    found = load_trained(path)
    model, pruner = found.model, found.model.pruner
    if pruner is None or not pruner.gates():
        raise ConfigError(
            f"{path} has no gates to slice by; train with keep_head, keep_channel or keep_block below 1 in ast_cfg"
        )
    soft = {kind: float(w.mean()) for kind, w in pruner.gates().items()}
    pruner.harden()
    sliced = slice_model(model)
    a = model.args
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, a.num_frames, a.in_chans, a.img_size, a.img_size, generator=g, dtype=torch.float64)
    gated, small = (net.double()(x) for net in (model, sliced))
    sliced.float()
    difference = float((gated - small).abs().max())
    checks = [
        Check(show="1", name="logits, sliced against gated", value=difference, unit="absolute", rule="<=", bound=SAME)
    ]
    targets = pruner.targets()
    for kind, share in soft.items():
        # Parts are counted, not weighed: a target of 6 heads in 12 is met by 6 open ones.
        name = f"{kind}: mean of the learned factors, distance from the target"
        checks.append(
            Check(show="5", name=name, value=abs(share - targets[kind]), unit="share", rule="<=", bound=_NEAR)
        )
    record = {**found.record, "sliced_from": str(path), "file": str(out)}
    save_trained(out, replace(found, model=sliced, record=record))
    again = load_trained(out).model
    same = all(torch.equal(p, q) for p, q in zip(sliced.parameters(), again.parameters(), strict=True))
    checks.append(Check(show="1", name="file holds the sliced network", value=float(same), unit="", rule="==", bound=1))
    return checks_body(
        checks,
        file=str(out),
        parameters=[_count(model) - _count(pruner), _count(sliced)],
        flops=[_flops(_open(model), x[:1]), _flops(sliced, x[:1])],
        heads=list(sliced.args.heads),
        hidden=list(sliced.args.hidden),
        keeps=soft,
    )


def _open(model: VideoViT) -> VideoViT:
    """Return a network of the same sizes that leaves the same tokens behind and nothing else."""
    arguments = model.arguments
    cfg = {**arguments["ast_cfg"], "keep_head": 1.0, "keep_channel": 1.0, "keep_block": 1.0}
    return VideoViT(**{**arguments, "ast_cfg": cfg}).eval()


def _flops(model: VideoViT, x: Tensor) -> float:
    """Return the operations of all blocks for one clip."""
    return float(model(x.float(), return_intermediate=True)[1]["flops"].sum())


def _count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
