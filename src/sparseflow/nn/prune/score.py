"""The score of every token of a clip."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.prune import entropy as e
from sparseflow.nn.prune.config import PruneConfig
from sparseflow.nn.prune.regions import Regions, block_regions, build_voronoi_regions
from sparseflow.ops.window_entropy import fused, window_entropy
from sparseflow.ops.window_entropy.reference import distributions, entropy, over_windows

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

    inside: Tensor

    def __init__(self, config: PruneConfig, embed_dim: int) -> None:
        super().__init__()
        self.config = config
        self.grid = config.patch_grid_h, config.patch_grid_w
        patches = self.grid[0] * self.grid[1]
        self.regions = Regions(*build_voronoi_regions(patches, self.grid, config.num_regions))
        self.partitions = nn.ModuleList(self._partitions(patches) if config.score == "entropy" else ())
        # Truth values, which a network brought to half precision keeps as they are.
        inside = [r.members() > 0 for r in self.partitions if isinstance(r, Regions)]
        self.register_buffer(
            "inside", torch.cat([*inside, torch.zeros(0, patches, dtype=torch.bool)]), persistent=False
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

    def _partitions(self, patches: int) -> list[Regions]:
        """Return the parts of a frame whose entropies are taken: blocks of levels, or coarse and fine regions."""
        c = self.config
        if c.entropy_mode == "levels":
            return [Regions(*block_regions(self.grid, level)) for level in c.space_window_levels]
        counts = [min(count, patches) for count in c.region_levels]
        return [Regions(*build_voronoi_regions(patches, self.grid, count)) for count in counts]

    def _score(self, features: Tensor) -> Tensor:
        c, times = self.config, features.shape[1]
        moves = c.score == "motion" or c.motion_weight > 0
        if c.entropy_mode == "levels":
            cuts = [e.windows(times, level, c.time_overlap) for level in c.time_window_levels]
        else:
            cuts = [e.moving_windows(times, length) for length in c.time_window_levels]
        single = [(t, t + 1) for t in range(times)] if moves else []
        h, spaces = self._tables(features, list(dict.fromkeys([*single, *(w for cut in cuts for w in cut)])))
        moved = None
        if moves:
            change = e.motion if c.entropy_mode == "levels" else e.sliding_motion
            moved = change(h, cuts, times)
            if c.score == "motion":
                return moved + c.region_weight * self._importance(moved)
        if c.entropy_mode == "levels":
            over_time, over_space = e.time_entropy(h, cuts)[:, None], e.space_entropy(spaces)[:, :, None]
        else:
            partitions = [r for r in self.partitions if isinstance(r, Regions)]
            over_time, over_space = e.sliding_time_entropy(h, cuts, times), e.region_entropy(spaces, partitions)
        base = over_time if c.region_importance == "time" else over_space
        score = c.time_weight * over_time + c.space_weight * over_space + c.region_weight * self._importance(base)
        return (score if moved is None else score + c.motion_weight * moved).expand(features.shape[:3])

    def _tables(self, features: Tensor, windows: Sequence[e.Window]) -> tuple[dict[e.Window, Tensor], list[Tensor]]:
        """Return the entropies over windows by window, `[B, N]`, and those over the parts of each partition."""
        c = self.config
        partitions = [r for r in self.partitions if isinstance(r, Regions)]
        standardize = c.entropy_norm == "standardize"
        if fused(features):
            members = self.inside.float() / self.inside.sum(1, keepdim=True).clamp(min=1)
            time, space = window_entropy(features, windows, members, tau=c.entropy_tau, standardize=standardize)
            spaces = list(torch.split(space, [len(r.sizes) for r in partitions], 2)) if partitions else []
        else:
            # Sums over the patches of each part alone: groups of the operator would each read the whole frame.
            p = distributions(features, c.entropy_tau, standardize)
            time = over_windows(p, windows)
            spaces = [entropy(r.means(p, 2)) for r in partitions]
        return dict(zip(windows, time.unbind(1), strict=True)), spaces

    def _importance(self, base: Tensor) -> Tensor:
        """Return each region's mean of Ht, or of Hs over time, given back to its patches."""
        if base.shape[-1] == 1:
            return base.mean(1, keepdim=True)
        return self.regions.spread(self.regions.means(base, 2), 2)
