"""ASTPruner: space-time entropy decides which tokens stay; gates decide which heads, channels and blocks do."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn.prune import keep as choose
from sparseflow.nn.prune.config import PruneConfig
from sparseflow.nn.prune.gates import StructureGate
from sparseflow.nn.prune.loss import KINDS, ast_loss, binary_loss
from sparseflow.nn.prune.rivals import attention_score, random_score, uniform_places
from sparseflow.nn.prune.score import TokenScore
from sparseflow.nn.prune.tokens import Tokens, merge_tokens, take_tokens

__all__ = ["ASTPruner"]


class ASTPruner(nn.Module):
    """Sparsity of several grains from the entropy of tokens over space and time.

    Args:
        cfg: settings by name, see `PruneConfig`; a `PruneConfig` itself is taken too.
        embed_dim: width C of a token.
        num_heads: heads of a block.
        depth: blocks D.
        num_patches: patches N of a frame.

    Raises:
        ConfigError: a setting is out of range or unknown, or does not fit the sizes.

    Attributes:
        idle: set it for a training to see all tokens for now; inference always leaves tokens behind.

    >>> pruner = ASTPruner({"patch_grid_h": 2, "patch_grid_w": 2, "min_keep_frame": 0}, 8, 2, 3, 4)
    >>> mask, sparsity = pruner.eval().forward_token_gating(torch.randn(1, 2, 4, 8))
    >>> int(mask.sum()), float(sparsity)
    (4, 0.5)
    """

    def __init__(
        self, cfg: Mapping[str, Any] | PruneConfig, embed_dim: int, num_heads: int, depth: int, num_patches: int
    ) -> None:
        super().__init__()
        self.config = config = cfg if isinstance(cfg, PruneConfig) else PruneConfig.from_dict(cfg)
        self.embed_dim, self.num_heads, self.depth, self.num_patches = embed_dim, num_heads, depth, num_patches
        if config.patch_grid_h * config.patch_grid_w != num_patches:
            raise ConfigError(
                f"patch_grid_h x patch_grid_w is {config.patch_grid_h} x {config.patch_grid_w}; expected "
                f"{num_patches} patches"
            )
        self.stages = config.schedule
        if (last := max(self.stages)) >= depth:
            raise ConfigError(f"tokens are to be left behind before block {last}; there are blocks 0 to {depth - 1}")
        self.scored = config.score in ("entropy", "motion")
        self.scorer = TokenScore(config, embed_dim) if self.scored else None
        self.head_gate = self._gate(num_heads, config.keep_head)
        self.channel_gate = self._gate(int(config.mlp_ratio * embed_dim), config.keep_channel)
        # One row of D parts: blocks compete with each other, not within themselves.
        self.block_gate = None if _all(config.keep_block) else self._made(1, depth, config.keep_block)
        self.keep_logits = nn.Parameter(self._steps().logit()) if config.learn_keep else None
        self.idle = False

    def _gate(self, width: int, keep: float | None) -> StructureGate | None:
        return None if _all(keep) else self._made(self.depth, width, keep)

    def _made(self, rows: int, width: int, keep: float | None) -> StructureGate:
        return StructureGate(rows, width, keep=keep or 1.0, init=self.config.gate_init)

    def _steps(self) -> Tensor:
        """Return what each stage keeps of what the one before left, below 1."""
        shares = torch.tensor(list(self.stages.values()), dtype=torch.float32)
        before = torch.cat([torch.ones(1), shares[:-1]])
        return (shares / before).clamp(max=0.999)

    # What tokens stay

    def token_score(self, token_feat: Tensor) -> Tensor | None:
        """Return the score of every token `[B, T, N]`, see `TokenScore`; None for a rival.

        Args:
            token_feat: `[B, T, N, C]`.
        """
        if self.scorer is None:
            return None
        learns = self.config.score_head or (self.training and self.config.gate == "soft")
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            score: Tensor = self.scorer(token_feat)
        return score

    def lifted(self, score: Tensor) -> Tensor:
        """Return scores `[B, T·N]` by which tokens are chosen: `min_keep_frame` of each time above all others.

        Args:
            score: `[B, T, N]`.
        """
        # Learned shares move; what must stay of each time is fixed by the schedule.
        fewest = choose.kept_count(min(self.stages.values()), score[0].numel())
        return choose.priority(score, min(self.config.min_keep_frame, fewest // score.shape[1])).flatten(1)

    def keeps(self) -> Tensor:
        """Return the share of all tokens that each stage keeps, `[stages]`."""
        if self.keep_logits is None:
            return torch.tensor(list(self.stages.values()))
        return torch.sigmoid(self.keep_logits).cumprod(0)

    def counts(self, total: int) -> dict[int, int]:
        """Return how many of `total` tokens each stage keeps, by block."""
        shares = list(self.stages.values()) if self.keep_logits is None else self.keeps().tolist()
        return {block: choose.kept_count(share, total) for block, share in zip(self.stages, shares, strict=True)}

    def forward_token_gating(self, token_feat: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mask of the tokens that are left after the last stage, and its sparsity.

        In training with a soft gate m = σ((score − θ) / temp), θ the k-th largest score of a sample; else exactly k
        ones. Sparsity is 1 − mean m.

        Args:
            token_feat: `[B, T, N, C]`.

        Returns:
            mask `[B, T, N, 1]` in [0, 1], sparsity without dimensions.

        Raises:
            ConfigError: the score is a rival's, which chooses inside the network.
        """
        score = self.token_score(token_feat)
        if score is None:
            raise ConfigError(f"score {self.config.score!r} makes no mask ahead; take score 'entropy' or 'motion'")
        flat, last = self.lifted(score), max(self.stages)
        mask = (
            self._log_gate(flat, last).exp() if self.soft else choose.hard_mask(flat, self.counts(flat.shape[1])[last])
        )
        return mask.view(score.shape).unsqueeze(-1), 1 - mask.mean()

    @property
    def soft(self) -> bool:
        """Whether tokens are weighted now, and not left behind."""
        return self.training and self.scored and self.config.gate == "soft"

    def _log_gate(self, score: Tensor, block: int) -> Tensor:
        total = score.shape[1]
        if self.keep_logits is None:
            k: float | Tensor = self.counts(total)[block]
        else:
            k = (self.keeps()[list(self.stages).index(block)] * total).clamp(1, total)
        return choose.log_soft_gate(score, choose.threshold(score, k), self.config.gate_temp)

    def reduce(
        self, tokens: Tokens, block: int, total: int, seen: tuple[Tensor, Tensor] | None = None, has_class: bool = False
    ) -> Tokens:
        """Return what goes into a block at which a stage begins.

        Args:
            tokens: what left the block before.
            block: a key of `stages`.
            total: tokens T·N of a clip.
            seen: queries and keys of the block before, `[B, heads, L, d]`; needed where `looks`.
            has_class: whether `seen` has a class token in the first place.
        """
        config = self.config
        if self.soft and tokens.score is not None:
            return tokens._replace(log_weight=self._log_gate(tokens.score, block))
        k = self.counts(total)[block]
        if k >= tokens.x.shape[1]:
            return tokens
        if config.score == "tome":
            assert seen is not None
            keys = seen[1][:, :, 1:] if has_class else seen[1]
            return merge_tokens(tokens, keys.mean(1), k)
        if config.score == "uniform":
            index = uniform_places(tokens.x.shape[1], k, tokens.x.device).expand(tokens.x.shape[0], -1)
            return take_tokens(tokens, index)
        score = tokens.score
        if config.score == "evit":
            assert seen is not None
            score = attention_score(*seen, tokens.log_weight, has_class)
        elif config.score == "random":
            score = random_score(tokens.x)
        assert score is not None
        if config.execution == "mask":
            mask = choose.hard_mask(score, k)
            return tokens._replace(log_weight=mask.log())
        # Attention and the mean do not ask for an order.
        index = choose.top_tokens(score.detach(), k, ascending=False)
        if config.score_head and self.training:
            # Adds nothing and lets the gradient through: hard forwards, soft backwards.
            gate = choose.log_soft_gate(score, choose.threshold(score, k), config.gate_temp)
            tokens = tokens._replace(log_weight=gate - gate.detach())
        return take_tokens(tokens, index)

    def acts(self, block: int) -> bool:
        """Return whether tokens are left behind before a block: at each stage, unless a training is `idle` yet."""
        return block in self.stages and not (self.idle and self.training)

    def looks(self, block: int) -> bool:
        """Return whether the stage before a block reads the attention of the block before it."""
        return self.acts(block) and self.config.score in ("evit", "tome")

    # What parts of blocks stay

    def get_head_gates(self) -> Tensor:
        """Return the factors of the heads' outputs, `[D, heads]`; ones without a gate."""
        return self._factors(self.head_gate, self.depth, self.num_heads)

    def get_channel_gates(self) -> Tensor:
        """Return the factors of the hidden channels, `[D, mlp_ratio·C]`; ones without a gate."""
        return self._factors(self.channel_gate, self.depth, int(self.config.mlp_ratio * self.embed_dim))

    def get_block_gates(self) -> Tensor:
        """Return the factors of the blocks, `[D]`; ones without a gate."""
        return self._factors(self.block_gate, 1, self.depth)[0]

    @staticmethod
    def _factors(gate: StructureGate | None, rows: int, width: int) -> Tensor:
        if gate is None:
            return torch.ones(rows, width)
        w: Tensor = gate()
        return w

    def gates(self) -> dict[str, Tensor]:
        """Return the factors of the kinds that have a gate, by "head", "ch" and "block"."""
        found = {}
        if self.head_gate is not None:
            found["head"] = self.get_head_gates()
        if self.channel_gate is not None:
            found["ch"] = self.get_channel_gates()
        if self.block_gate is not None:
            found["block"] = self.get_block_gates()
        return found

    def set_temperature(self, temperature: float) -> None:
        """Set the temperature of all structural gates; anneal it towards .1 to make them decide.

        Raises:
            ConfigError: it is not above 0.
        """
        for gate in (self.head_gate, self.channel_gate, self.block_gate):
            if gate is not None:
                gate.set_temperature(temperature)

    def anneal(self, progress: float) -> None:
        """Set the temperature for a share of a training: from 1 in a line to .1 at .8 of it, then .1.

        Gates want ten times the learning rate of weights, and no weight decay, to reach their targets meanwhile.

        Args:
            progress: share of the training that is done, from 0 to 1.
        """
        self.set_temperature(max(0.1, 1 - 0.9 * progress / 0.8))

    def harden(self) -> None:
        """Close all but the target share of heads, channels and blocks for good; the others keep their factors."""
        for gate in (self.head_gate, self.channel_gate, self.block_gate):
            if gate is not None:
                gate.harden()

    # The loss

    def targets(self) -> dict[str, float]:
        """Return the target share of every kind that has a gate."""
        config = self.config
        found = {"token": sum(self.stages.values()) / len(self.stages)}
        for kind, gate in (("head", self.head_gate), ("ch", self.channel_gate), ("block", self.block_gate)):
            if gate is not None:
                found[kind] = gate.keep
        if not self.scored or (self.keep_logits is None and config.ast_loss == "tracking"):
            # Exactly k tokens are kept by construction; there is nothing to pull.
            del found["token"]
        return found

    def compute_L_AST(self, sparsity_token: Any, sparsity_head: Any, sparsity_ch: Any, sparsity_block: Any) -> Tensor:
        """Return the loss of the four sparsities, see `ast_loss`; plus lambda_binary·Σ mean 4w(1 − w) of the gates."""
        config = self.config
        sparsity = {"token": sparsity_token, "head": sparsity_head, "ch": sparsity_ch, "block": sparsity_block}
        weights = {kind: float(getattr(config, f"lambda_{kind}")) for kind in KINDS}
        loss = ast_loss(sparsity, self.targets(), weights, config.ast_loss)
        if config.lambda_binary:
            for w in self.gates().values():
                loss = loss + config.lambda_binary * binary_loss(w)
        return loss


def _all(keep: float | None) -> bool:
    return keep is None or keep == 1
