"""Slots of a wafer, each of which learns which type of chiplet it holds, or none."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.hardware.chiplet.library import ChipletType

__all__ = ["ChipletSlots", "temperature"]

_SPECS = (
    "peak_flops_per_s", "peak_bw_bytes_per_s", "mem_gb", "area_mm2", "width_mm", "height_mm", "tdp_w",
    "link_bw_bytes_per_s", "link_pj_per_bit", "link_latency_ns",
)  # fmt: skip


def temperature(epoch: int) -> float:
    """Return the temperature of an epoch, max(0.5, 5·0.9^e).

    >>> temperature(0), temperature(100)
    (5.0, 0.5)
    """
    return max(0.5, 5.0 * 0.9**epoch)


class ChipletSlots(nn.Module):
    """Learns the type of each slot through a relaxed choice α, `[S, M+1]`.

    Column M means empty. While training α = softmax((ℓ + g)/τ) with Gumbel
    noise g; in evaluation α = softmax(ℓ).

    Args:
        types: the M types of chiplets.
        slots: S, how many there are.
        empty_factor: how many times the slowest type a slot costs where it is
            empty; see `expected`.

    Raises:
        ConfigError: no slot or no type, or a factor below one.

    Source: Jang et al., Categorical Reparameterization with Gumbel-Softmax,
        ICLR 2017.
    """

    logits: Tensor

    def __init__(self, types: Sequence[ChipletType], *, slots: int = 16, empty_factor: float = 4.0) -> None:
        super().__init__()
        if slots < 1 or not types:
            raise ConfigError(f"{slots} slots of {len(types)} types; there must be one of each at least")
        if not empty_factor >= 1:
            raise ConfigError(f"empty_factor is {empty_factor}; an empty slot must cost no less than the slowest type")
        self.types = tuple(types)
        self.empty_factor = empty_factor
        self.logits = nn.Parameter(torch.zeros(slots, len(types) + 1, dtype=torch.float64))

    def noise(self, generator: torch.Generator) -> Tensor:
        """Draw Gumbel noise, `[S, M+1]`; hold it over steps that are compared."""
        uniform = torch.rand(self.logits.shape, generator=generator, dtype=torch.float64)
        return -torch.log(-torch.log(uniform.clamp(1e-12, 1 - 1e-12)))

    def alpha(self, *, noise: Tensor | None = None, tau: float = 1.0, hard: bool = False) -> Tensor:
        """Return the choice, rows that sum to one.

        Args:
            noise: `[S, M+1]` from `noise`; used while training alone.
            tau: temperature; used while training alone.
            hard: choose one column of each row, with the gradient of the soft
                choice (straight-through).
        """
        scores = self.logits
        if self.training:
            scores = (scores if noise is None else scores + noise) / tau
        soft = torch.softmax(scores, -1)
        if not hard:
            return soft
        one = nn.functional.one_hot(soft.argmax(-1), soft.shape[-1]).to(soft.dtype)
        return one + soft - soft.detach()

    def choice(self) -> tuple[int, ...]:
        """Return the likeliest column of each slot; M is empty."""
        return tuple(self.logits.argmax(-1).tolist())

    def set_choice(self, choice: Sequence[int], *, margin: float = 4.0) -> None:
        """Set the logits so that a choice is likeliest, by `margin` over the others.

        Raises:
            ConfigError: a choice for another number of slots, or of no column.
        """
        slots, columns = self.logits.shape
        if len(choice) != slots or not all(0 <= c < columns for c in choice):
            raise ConfigError(f"choice {tuple(choice)} is not {slots} columns below {columns}")
        with torch.no_grad():
            self.logits.zero_()
            self.logits[torch.arange(slots), torch.tensor(choice)] = margin

    def usable(self) -> Tensor:
        """Return which slots hold a chiplet, `[S]` bool; no segment may go to another."""
        return self.logits.detach().argmax(-1) < len(self.types)

    def eff_specs(self, alpha: Tensor) -> dict[str, Tensor]:
        """Return the expected specification of each slot, Σ_t α_st·spec_t, `[S]` by name; an empty slot has 0.

        Areas, sizes and powers may be averaged; latencies may not: see `expected`.
        """
        return {key: alpha[:, :-1] @ self._column(key, alpha) for key in _SPECS}

    def expected(self, cost: Tensor, alpha: Tensor) -> Tensor:
        """Return the expected cost of each segment on each slot, `[K, S]`.

        c[k, s] = Σ_t α_st·cost[k, t] + α_s∅·f·max_t cost[k, t], f the
        `empty_factor`: an average of costs, never the cost of an average chip.
        The last term keeps the sum from falling as a slot empties; where the
        choice is hard and slots are usable it vanishes.

        Args:
            cost: `[K, M]`, a segment's cost on each type.
            alpha: `[S, M+1]`.
        """
        absent = self.empty_factor * cost.amax(1, keepdim=True)
        return torch.cat([cost, absent], 1).to(alpha) @ alpha.T

    def chip_loss(self, alpha: Tensor) -> Tensor:
        """Return the expected number of chiplets, Σ_s (1 − α_s∅)."""
        return (1 - alpha[:, -1]).sum()

    def _column(self, key: str, like: Tensor) -> Tensor:
        return torch.tensor([getattr(t, key) for t in self.types], dtype=like.dtype, device=like.device)
