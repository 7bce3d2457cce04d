"""Equalities that pruning rests on, checked on small networks: keep 1 is plain, gathered is masked, sliced is gated."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparseflow.compress.prune import slice_model
from sparseflow.nn.models.video_vit import VideoViT
from sparseflow.recipes.checks import Check

__all__ = ["agreement", "agreement_checks"]

_PLAIN, _SAME = 1e-5, 1e-4

_SIZES: dict[str, Any] = {
    "img_size": 40, "num_frames": 5, "num_classes": 7, "embed_dim": 48, "depth": 4, "num_heads": 4, "mlp_ratio": 2.0,
    "patch_size": 8,
}  # fmt: skip


@torch.no_grad()
def agreement(*, clips: int = 4, seed: int = 0) -> dict[str, float]:
    """Return the largest difference of a logit, by equality, of networks with random weights of deviation 0.2.

    Frames and patches a side are 5, which windows of 2 and 4 do not divide.

    Args:
        clips: random clips to compare on.
        seed: of clips and weights.
    """
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(clips, 5, 3, 40, 40, generator=g)
    weights = [torch.randn(p.shape, generator=g) * 0.2 for p in _built().parameters()]

    def answers(cfg: dict[str, Any] | None) -> Tensor:
        out: Tensor = _filled(_built(cfg), weights)(x)
        return out

    plain = answers(None)
    found = {"keep 1 against the plain network": float((answers({"keep": 1.0}) - plain).abs().max())}
    for mode in ("levels", "sliding"):
        cfg = {"keep": 0.5, "entropy_mode": mode}
        gap = answers(cfg) - answers({**cfg, "execution": "mask"})
        found[f"gathered against masked, entropy {mode}"] = float(gap.abs().max())
    gated = _built({"keep": 0.5, "keep_head": 0.5, "keep_channel": 0.5, "keep_block": 0.75})
    for p in gated.parameters():
        p.copy_(torch.randn(p.shape, generator=g) * 0.2)
    sliced = slice_model(gated)
    assert gated.pruner is not None
    gated.pruner.harden()
    found["sliced against gated"] = float((sliced(x) - gated(x)).abs().max())
    return found


def agreement_checks(found: Mapping[str, float]) -> list[Check]:
    """Return what `agreement` found as checks: keep 1 equals the plain network within 1e-5, the others within 1e-4."""
    return [
        Check(
            show="1", name=f"{name}, largest difference of a logit", value=value, unit="", rule="<=",
            bound=_PLAIN if name.startswith("keep 1") else _SAME,
        )
        for name, value in found.items()
    ]  # fmt: skip


def _built(cfg: dict[str, Any] | None = None) -> VideoViT:
    return VideoViT(**_SIZES, use_ast_prune=cfg is not None, ast_cfg=cfg).eval()


def _filled(model: VideoViT, weights: list[Tensor]) -> VideoViT:
    for p, w in zip(model.parameters(), weights, strict=False):
        p.copy_(w)
    return model
