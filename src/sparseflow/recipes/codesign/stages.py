"""A video transformer cut where segments end: each part takes what the one before it gave."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseflow.errors import UnsupportedError
from sparseflow.hardware.mapping import Segment
from sparseflow.hardware.proxy import LayerSpec
from sparseflow.nn.models.video_vit import VideoViT

__all__ = ["Part", "cut"]


class Part(nn.Module):
    """Some neighbouring steps of a network: the embedding, blocks, the classifier.

    Args:
        model: shares its weights with the part.
        blocks: which blocks.
        first: whether the embedding comes before them.
        last: whether the classifier comes behind them.
    """

    def __init__(self, model: VideoViT, blocks: Sequence[int], *, first: bool, last: bool) -> None:
        super().__init__()
        self.model, self.blocks, self.first, self.last = model, tuple(blocks), first, last

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return tokens `[B, L, C]`, or logits from the last part; the first one takes a clip."""
        model = self.model
        if self.first:
            x = model._with_positions(model.patch_embed(model._ordered(x)))[1]
        for i in self.blocks:
            x = model.blocks[i](x)[0]
        return model.head(model.norm(x.mean(1))) if self.last else x


def cut(model: VideoViT, layers: Sequence[LayerSpec], segments: Sequence[Segment]) -> list[Part]:
    """Return the part of each segment; one after the other they compute what the network does.

    Args:
        model: in eval mode, without a pruner, its tokens averaged in the end.
        layers: of `video_layers`.
        segments: of those layers, which keep blocks whole.

    Raises:
        UnsupportedError: a network with a pruner or a class token, or a segment that ends within a block.
    """
    if model.pruner is not None or model.args.pool != "mean":
        raise UnsupportedError("only networks that see all tokens and average them are cut; slice the network first")
    parts, done = [], -1
    for segment in segments:
        names = [layers[i].name for i in segment.layer_indices]
        blocks = sorted({int(name.split(".")[1]) for name in names if name.startswith("blocks.")})
        if blocks and blocks[0] <= done:
            raise UnsupportedError(f"segment {segment.id} begins within block {blocks[0]}; cut between blocks")
        done = blocks[-1] if blocks else done
        parts.append(Part(model, blocks, first="patch_embed" in names, last="head" in names))
    return parts
