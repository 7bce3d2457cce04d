"""Settings of pruning by space-time entropy: the seed's names and defaults, checked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sparseflow.errors import ConfigError

__all__ = ["SCORES", "PruneConfig"]

SCORES = ("entropy", "motion", "uniform", "random", "evit", "tome")

_CHOICES = {
    "score": SCORES,
    "entropy_mode": ("levels", "sliding"),
    "entropy_norm": ("standardize", "none"),
    "region_importance": ("time", "space"),
    "gate": ("soft", "hard"),
    "execution": ("gather", "mask"),
    "ast_loss": ("tracking", "spec"),
    "features": ("embedding", "tokens"),
}
_SHARES = ("keep", "keep_head", "keep_channel", "keep_block")
_ABOVE_ZERO = ("entropy_tau", "gate_temp", "mlp_ratio")
# A squared distance needs a weight that holds against the task within .02 of its target.
_LAMBDAS = {
    "spec": {"token": 0.1, "head": 0.1, "ch": 0.1, "block": 0.05, "binary": 0.0},
    "tracking": {"token": 5.0, "head": 50.0, "ch": 50.0, "block": 50.0, "binary": 0.1},
}
_NOT_NEGATIVE = (
    "time_weight", "space_weight", "region_weight", "motion_weight", "lambda_token", "lambda_head", "lambda_ch",
    "lambda_block", "lambda_binary",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PruneConfig:
    """How tokens, heads, channels and blocks are left out.

    Args:
        keep: share ρ of the T·N tokens that is kept from block `prune_before` on.
        prune_before: block before which tokens are left behind; 0 is behind the embedding.
        keep_schedule: {block: share of all T·N tokens} for several stages, not growing; replaces the two above.
        score: what tokens are chosen by: "entropy"; "motion", the part of it that is change; or a rival: "uniform",
            "random", "evit" (attention of the block before), "tome" (merges similar tokens instead).
        time_window_levels: numbers of windows ("levels") or lengths of windows ("sliding") in time.
        space_window_levels: blocks a side, numbers of blocks are their squares ("levels").
        region_levels: numbers of regions whose entropy is taken ("sliding").
        entropy_mode: "levels", one entropy a place and one a frame; or "sliding", one for each token.
        entropy_tau: temperature τ of the softmax over the channels.
        entropy_norm: "standardize" features over their channels before it; "none" is the literal formula, whose
            entropies hardly differ for small activations.
        time_overlap: share by which windows of "levels" overlap.
        num_regions: Voronoi regions R of a frame.
        region_importance: "time", a region's mean of the time entropy; "space" is the literal formula, which is the
            same for every region.
        time_weight: weight a of the time entropy.
        space_weight: weight b of the space entropy.
        region_weight: weight c of the region's importance.
        motion_weight: weight d of the motion in score "entropy".
        min_keep_frame: fewest tokens kept of each time, where k allows; 0 lets whole frames vanish.
        gate: in training, "soft" weighs tokens by σ((score − θ)/gate_temp); "hard" leaves them behind as always.
        gate_temp: temperature of the soft gate.
        execution: "gather" leaves tokens behind; "mask" hides them and saves nothing, the reference.
        features: what is scored: the "embedding" before positions, or the "tokens" that reach the first stage.
        score_head: whether a learned score is added (straight through a hard gate).
        learn_keep: whether the shares of the stages are learned around their schedule; counts follow them, so that a
            network has no fixed shapes until it is sliced.
        keep_head: share of the heads to keep; 1 builds no gate.
        keep_channel: share of the hidden channels likewise.
        keep_block: share of the blocks likewise.
        gate_init: logits that structural gates start from; σ(3) = .95.
        ast_loss: "tracking" pulls shares to their targets; "spec", the literal sum, rewards density.
        lambda_token: weight of the tokens in the loss; None is .1 in "spec", 5 in "tracking".
        lambda_head: weight of the heads; None is .1 in "spec", 50 in "tracking": with 5, a long training drifts by .04.
        lambda_ch: weight of the channels; None as of the heads.
        lambda_block: weight of the blocks; None is .05 in "spec", 50 in "tracking".
        lambda_binary: weight of mean 4w(1 − w), which drives structural gates to 0 or 1; None is 0 in "spec", .1 in
            "tracking".
        patch_grid_h: patches H_p down a frame; a network sets its own.
        patch_grid_w: patches W_p across.
        mlp_ratio: hidden channels over C.

    Raises:
        ConfigError: a field is out of range; names it.

    >>> PruneConfig(keep=0.25).schedule
    {1: 0.25}
    """

    keep: float = 0.5
    prune_before: int = 1
    keep_schedule: Mapping[int, float] | None = None
    score: str = "entropy"
    time_window_levels: Sequence[int] = (1, 2, 4)
    space_window_levels: Sequence[int] = (1, 2, 4)
    region_levels: Sequence[int] = (4, 8)
    entropy_mode: str = "levels"
    entropy_tau: float = 1.0
    entropy_norm: str = "standardize"
    time_overlap: float = 0.0
    num_regions: int = 4
    region_importance: str = "time"
    time_weight: float = 1.0
    space_weight: float = 0.5
    region_weight: float = 0.5
    motion_weight: float = 0.0
    min_keep_frame: int = 1
    gate: str = "soft"
    gate_temp: float = 0.1
    execution: str = "gather"
    features: str = "embedding"
    score_head: bool = False
    learn_keep: bool = False
    keep_head: float | None = 1.0
    keep_channel: float | None = 1.0
    keep_block: float | None = 1.0
    gate_init: float = 3.0
    ast_loss: str = "tracking"
    lambda_token: float | None = None
    lambda_head: float | None = None
    lambda_ch: float | None = None
    lambda_block: float | None = None
    lambda_binary: float | None = None
    patch_grid_h: int = 14
    patch_grid_w: int = 14
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        """Check every field."""
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected one of {', '.join(known)}")
        for name in _SHARES:
            if getattr(self, name) is None and name != "keep":
                object.__setattr__(self, name, 1.0)
            _check_share(name, getattr(self, name))
        for kind, weight in _LAMBDAS[self.ast_loss].items():
            if getattr(self, f"lambda_{kind}") is None:
                object.__setattr__(self, f"lambda_{kind}", weight)
        for name in (*_ABOVE_ZERO, *_NOT_NEGATIVE):
            value = getattr(self, name)
            low = name in _ABOVE_ZERO
            if not _number(value) or not math.isfinite(value) or value < 0 or (low and value == 0):
                raise ConfigError(f"{name} is {value!r}; expected a number {'above 0' if low else 'of at least 0'}")
        for name in ("time_window_levels", "space_window_levels", "region_levels"):
            levels = getattr(self, name)
            if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
                raise ConfigError(f"{name} is {levels!r}; expected a list of whole numbers")
            for level in levels:
                _check_count(name, level, 1)
            object.__setattr__(self, name, tuple(levels))
        for name, least in (
            ("prune_before", 0), ("min_keep_frame", 0), ("num_regions", 1), ("patch_grid_h", 1), ("patch_grid_w", 1)
        ):  # fmt: skip
            _check_count(name, getattr(self, name), least)
        for name in ("score_head", "learn_keep"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; expected true or false")
        if not _number(self.time_overlap) or not 0 <= self.time_overlap < 1:
            raise ConfigError(f"time_overlap is {self.time_overlap!r}; expected a share from 0 to below 1")
        if not _number(self.gate_init) or not math.isfinite(self.gate_init):
            raise ConfigError(f"gate_init is {self.gate_init!r}; expected a number")
        self._check_schedule()
        self._check_together()

    def _check_schedule(self) -> None:
        if self.keep_schedule is None:
            return
        if not isinstance(self.keep_schedule, Mapping) or not self.keep_schedule:
            raise ConfigError(f"keep_schedule is {self.keep_schedule!r}; expected a mapping from block to share")
        stages: dict[int, float] = {}
        for key, share in self.keep_schedule.items():
            block = int(key) if isinstance(key, str) and key.isdecimal() else key
            _check_count("keep_schedule names block", block, 0)
            _check_share(f"keep_schedule at block {block}", share)
            stages[block] = share
        stages = dict(sorted(stages.items()))
        if list(stages.values()) != sorted(stages.values(), reverse=True):
            raise ConfigError(
                f"keep_schedule is {stages}; shares are of all tokens and cannot grow from stage to stage"
            )
        object.__setattr__(self, "keep_schedule", stages)

    def _check_together(self) -> None:
        scored = self.score in ("entropy", "motion")
        if not scored and (self.execution == "mask" or self.score_head or self.learn_keep):
            raise ConfigError(
                f"score {self.score!r} has no map of all tokens; execution 'mask', score_head and learn_keep need one: "
                "take score 'entropy' or 'motion'"
            )
        if self.score in ("evit", "tome") and 0 in self.schedule:
            raise ConfigError(
                f"score {self.score!r} reads the attention of the block before; prune before block 1 or later"
            )

    @property
    def schedule(self) -> dict[int, float]:
        """The stages: share of all tokens that is kept from each block on."""
        return {self.prune_before: self.keep} if self.keep_schedule is None else dict(self.keep_schedule)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values; `from_dict` takes them back."""
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}
        if self.keep_schedule is not None:
            values["keep_schedule"] = {str(k): v for k, v in self.keep_schedule.items()}
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "PruneConfig":
        """Return the settings of a mapping.

        Raises:
            ConfigError: unknown names, or a field out of range.
        """
        known = {f.name for f in fields(cls)}
        if unknown := [str(name) for name in values if name not in known]:
            raise ConfigError(f"unknown fields {', '.join(unknown)} of ast_cfg; known: {', '.join(sorted(known))}")
        return cls(**values)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_share(name: str, value: Any) -> None:
    if not _number(value) or not 0 < value <= 1:
        raise ConfigError(f"{name} is {value!r}; expected a share above 0, at most 1")


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name} is {value!r}; expected a whole number of at least {least}")
