"""The score of every token of a clip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.prune import entropy as h
from sparseflow.nn.prune.config import PruneConfig
from sparseflow.nn.prune.regions import Regions, build_voronoi_regions

__all__ = ["TokenScore"]


class TokenScore(nn.Module):
    """Score `[B, T, N, C]` features: s[b, t, n] = a·Ht + b·Hs + c·I[r(n)] + d·M, at least in float32.

    Ht are entropies over time, Hs over space, M the motion, each in [0, 1]; I is a region's mean of Ht (or of Hs, the
    literal formula). In mode "levels" Ht belongs to a place n and Hs to a time t; in "sliding" both to a token. Score
    "motion" takes M in the place of Ht, and no Hs.

    Args:
        config: weights, windows and modes.
        embed_dim: width C, for the learned part.

    Raises:
        ConfigError: the grid has fewer patches than regions.
    """

    def __init__(self, config: PruneConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.grid = config.patch_grid_h, config.patch_grid_w
        patches = self.grid[0] * self.grid[1]
        self.regions = Regions(*build_voronoi_regions(patches, self.grid, config.num_regions))
        counts: Sequence[int] = config.region_levels if config.entropy_mode == "sliding" else ()
        self.partitions = nn.ModuleList(
            Regions(*build_voronoi_regions(patches, self.grid, min(count, patches))) for count in counts
        )
        self.head = None
        if config.score_head:
            self.norm = nn.LayerNorm(embed_dim)
            self.head = nn.Linear(embed_dim, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scores `[B, T, N]`, float64 for such features, else float32.

        Raises:
            ConfigError: N is not the grid's.
        """
        if features.ndim != 4 or features.shape[2] != self.grid[0] * self.grid[1]:
            raise ConfigError(
                f"token features have shape {list(features.shape)}; expected [B, T, {self.grid[0] * self.grid[1]}, C] "
                f"for a grid of {self.grid[0]} x {self.grid[1]} patches"
            )
        with torch.autocast(features.device.type, enabled=False):
            score = self._score(features)
            if self.head is not None:
                # In the type of the score, whatever the parameters' is.
                normed = F.layer_norm(
                    features.to(score.dtype),
                    features.shape[-1:],
                    self.norm.weight.to(score.dtype),
                    self.norm.bias.to(score.dtype),
                )
                weight, bias = self.head.weight.to(score.dtype), self.head.bias.to(score.dtype)
                score = score + F.linear(normed, weight, bias).squeeze(-1)
        return score

    def _score(self, features: Tensor) -> Tensor:
        c = self.config
        p = h.distributions(features, tau=c.entropy_tau, standardize=c.entropy_norm == "standardize")
        shape = features.shape[:3]
        moved = None
        if c.score == "motion" or c.motion_weight:
            moved = self._motion(p)
        if c.score == "motion":
            assert moved is not None
            return moved + c.region_weight * self._importance(moved)
        over_time, over_space = self._entropies(p)
        base = over_time if c.region_importance == "time" else over_space
        score = c.time_weight * over_time + c.space_weight * over_space + c.region_weight * self._importance(base)
        return (score if moved is None else score + c.motion_weight * moved).expand(shape)

    def _motion(self, p: Tensor) -> Tensor:
        c = self.config
        if c.entropy_mode == "sliding":
            return h.sliding_motion(p, c.time_window_levels)
        return h.motion(p, c.time_window_levels, c.time_overlap)

    def _entropies(self, p: Tensor) -> tuple[Tensor, Tensor]:
        """Return Ht and Hs, each to be broadcast over `[B, T, N]`."""
        c = self.config
        if c.entropy_mode == "sliding":
            partitions = [r for r in self.partitions if isinstance(r, Regions)]
            return h.sliding_time_entropy(p, c.time_window_levels), h.sliding_region_entropy(p, partitions)
        over_time = h.time_entropy(p, c.time_window_levels, c.time_overlap)
        return over_time[:, None], h.space_entropy(p, self.grid, c.space_window_levels)[:, :, None]

    def _importance(self, base: Tensor) -> Tensor:
        """Return each region's mean of Ht, or of Hs over time, given back to its patches."""
        if base.shape[-1] == 1:
            return base.mean(1, keepdim=True)
        return self.regions.spread(self.regions.means(base, 2), 2)
