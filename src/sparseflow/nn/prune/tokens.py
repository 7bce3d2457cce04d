"""The tokens of a clip on their way through a network, and what is carried along."""

from typing import NamedTuple

import torch
from torch import Tensor

from sparseflow.ops.token_gather import token_gather

__all__ = ["Tokens", "merge_tokens", "take_tokens"]


class Tokens(NamedTuple):
    """Tokens between two blocks.

    Args:
        x: `[B, L, C]`, without a class token.
        position: `[B, L]` place in T·N of each token, or None while all are there, in order.
        score: `[B, L]` score of each token, or None.
        log_weight: `[B, L]` logarithm of the weight of each token in attention and in the mean, or None for 1.
    """

    x: Tensor
    position: Tensor | None = None
    score: Tensor | None = None
    log_weight: Tensor | None = None

    def places(self) -> Tensor:
        """Return `position`, also while all tokens are there."""
        if self.position is not None:
            return self.position
        return torch.arange(self.x.shape[1], device=self.x.device).expand(self.x.shape[0], -1)


def take_tokens(tokens: Tokens, index: Tensor) -> Tokens:
    """Keep the tokens at `index` `[B, k]`, with all that is carried along."""
    return Tokens(
        x=token_gather(tokens.x, index),
        position=index if tokens.position is None else token_gather(tokens.position, index),
        score=None if tokens.score is None else token_gather(tokens.score, index),
        log_weight=None if tokens.log_weight is None else token_gather(tokens.log_weight, index),
    )


def merge_tokens(tokens: Tokens, metric: Tensor, k: int) -> Tokens:
    """Merge the most similar tokens until k are left.

    Tokens are split into every other one; each of the first half draws an edge to the most similar of the second
    (cosine); along the best edges the first are averaged into the second, weighted by how many tokens each stands for.
    That halves the tokens at most, so it is repeated where fewer are asked for. A merged token keeps the position of
    the second half's.

    Args:
        tokens: weights are counts.
        metric: `[B, L, d]` what similarity is measured on, keys as a rule.
        k: tokens to leave, at least 1.

    Source: Bolya et al., "Token Merging: Your ViT But Faster", arXiv 2210.09461, Algorithm 1.
    """
    with torch.autocast(tokens.x.device.type, enabled=False):
        while (length := tokens.x.shape[1]) > k:
            tokens, metric = _merge(tokens, metric, min(length - k, length // 2))
    return tokens


def _merge(tokens: Tokens, metric: Tensor, r: int) -> tuple[Tokens, Tensor]:
    width = tokens.x.shape[2]
    unit = metric / metric.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    similar = unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)
    best, partner = similar.max(-1)
    order = best.sort(dim=1, descending=True, stable=True).indices
    gone, stay = order[:, :r], order[:, r:].sort(dim=1).values
    into = partner.gather(1, gone)

    size = torch.ones_like(tokens.x[..., :1], dtype=torch.float32)
    if tokens.log_weight is not None:
        size = tokens.log_weight.float().exp().unsqueeze(-1)
    carried = torch.cat([tokens.x.float() * size, metric.float() * size, size], -1)
    first, second = carried[:, ::2], carried[:, 1::2]
    second = second.scatter_add(1, into.unsqueeze(-1).expand(-1, -1, second.shape[2]), token_gather(first, gone))
    # In the order of the sequence as far as there is one: those that stay, then those that were merged into.
    left = torch.cat([token_gather(first, stay), second], 1)
    size = left[..., -1:]
    mean = left[..., :-1] / size
    places = tokens.places()
    places = torch.cat([places[:, ::2].gather(1, stay), places[:, 1::2]], 1)
    merged = Tokens(
        x=mean[..., :width].to(tokens.x.dtype), position=places, log_weight=size.squeeze(-1).log()
    )  # fmt: skip
    return merged, mean[..., width:].to(metric.dtype)
