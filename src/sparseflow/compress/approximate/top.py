"""The best configurations of a search, each once."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sparseflow.compress.approximate.codes import check_codes
from sparseflow.errors import ConfigError, MeasurementError

__all__ = ["Entry", "Top"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A configuration of the list.

    Args:
        codes: int64 `[L, 5]`.
        reward: mean over the times that it was scored.
        seen: how many times that was.
    """

    codes: Tensor
    reward: float
    seen: int


class Top:
    """Remembers what was scored and gives the configurations of greatest reward.

    Rewards are negated losses, at most 0 as a rule, so that the greatest is the one of least magnitude. A
    configuration that comes again is no second entry: its reward becomes the mean of its scores, so that a lucky
    batch counts no more than the others. Of equals the one scored first stands first.

    Args:
        size: how many `best` gives.
        distinct: False makes an entry of every score, as the earlier project did.

    Raises:
        ConfigError: a size below 1.
    """

    def __init__(self, size: int = 30, *, distinct: bool = True) -> None:
        if size < 1:
            raise ConfigError(f"the list of the best has size {size}; expected at least 1")
        self.size = size
        self.distinct = distinct
        self._scores: dict[bytes, tuple[Tensor, list[float]]] = {}
        self._told = 0

    def __len__(self) -> int:
        """Return the number of entries that `best` gives."""
        return min(self.size, len(self._scores))

    def add(self, codes: Tensor, rewards: Tensor) -> None:
        """Take scores of configurations.

        Args:
            codes: int64 `[K, L, 5]`.
            rewards: `[K]`.

        Raises:
            ConfigError: codes out of order, or another number of rewards.
            MeasurementError: a reward is not finite.
        """
        check_codes(codes)
        told = tuple(codes.shape), tuple(rewards.shape)
        if codes.ndim != 3 or rewards.shape != codes.shape[:1]:
            raise ConfigError(f"codes and rewards have shapes {told}; expected [K, L, 5] and [K]")
        if not bool(rewards.isfinite().all()):
            raise MeasurementError(f"a reward is not finite: {rewards.tolist()}; look at the losses behind it")
        for one, reward in zip(codes.detach().cpu(), rewards.tolist(), strict=True):
            key = bytes(one.to(torch.uint8).flatten().tolist())
            if not self.distinct:
                key += self._told.to_bytes(8, "big")
            self._scores.setdefault(key, (one.clone(), []))[1].append(float(reward))
            self._told += 1

    def best(self) -> list[Entry]:
        """Return up to `size` entries, the greatest reward first."""
        entries = [Entry(codes=c, reward=math.fsum(r) / len(r), seen=len(r)) for c, r in self._scores.values()]
        return sorted(entries, key=lambda entry: -entry.reward)[: self.size]

    def codes(self) -> Tensor:
        """Return the codes of `best`, int64 `[n, L, 5]`.

        Raises:
            ConfigError: nothing was scored yet.
        """
        if not self._scores:
            raise ConfigError("nothing was scored yet; add configurations first")
        return torch.stack([entry.codes for entry in self.best()])
