"""The reward of a configuration: how little the network's answers and its maps of attention have changed."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from sparseflow.compress.approximate.attention import AttentionWeights
from sparseflow.errors import ConfigError

__all__ = ["RewardConfig", "distillation"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardConfig:
    """r = −KD − `attention`·AT, at most 0.

    Args:
        temperature: T of the distillation.
        attention: weight of the attention loss; 0 leaves it out.
        weights: of its parts.

    Raises:
        ConfigError: the temperature is not positive, or the weight is negative.
    """

    temperature: float = 2.0
    attention: float = 100.0
    weights: AttentionWeights = field(default_factory=AttentionWeights)

    def __post_init__(self) -> None:
        """Check the fields."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature of the reward is {self.temperature}; expected a positive number, as 2.0")
        if not (math.isfinite(self.attention) and self.attention >= 0):
            raise ConfigError(f"attention weight of the reward is {self.attention}; expected 0 or more, as 100.0")

    def combine(self, kd: Tensor, at: Tensor) -> Tensor:
        """Return the reward of losses.

        >>> import torch
        >>> RewardConfig().combine(torch.tensor([0.5]), torch.tensor([0.01]))
        tensor([-1.5000])
        """
        return -kd - self.attention * at

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON and for the keys of records."""
        w = self.weights
        return {
            "temperature": self.temperature, "attention": self.attention,
            "l1": w.l1, "cosine": w.cosine, "features": w.features,
        }  # fmt: skip


def distillation(student: Tensor, teacher: Tensor, temperature: float = 2.0) -> Tensor:
    """Return T²·KL(softmax(z_t/T) ‖ softmax(z_s/T)) of each image.

    Args:
        student: logits `[..., N, classes]`.
        teacher: logits `[N, classes]`.
        temperature: T.

    Returns:
        float64 `[..., N]`; its mean over the images is PyTorch's "batchmean".

    Source: Hinton et al., arXiv:1503.02531.

    >>> import torch
    >>> distillation(torch.tensor([[3.0, 1.0]]), torch.tensor([[3.0, 1.0]])).item()
    0.0
    """
    s, t = (F.log_softmax(z.double() / temperature, dim=-1) for z in (student, teacher))
    return temperature**2 * (t.exp() * (t - s)).sum(-1)
