"""The policy of a PPO search over codes, and what its update is made of."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["Episodes", "Policy", "discounted", "leave_one_out", "log_probs"]

_ILLEGAL = -1e9


class Policy(nn.Module):
    """One network for all layers: a trunk, a head for each code of a layer, and a critic.

    Trunk S→hidden→hidden (ReLU); heads and critic hidden→hidden (tanh)→codes
    and →1. What a head may choose depends on the codes chosen before through
    the range alone, so that one pass serves a whole batch of episodes.

    Args:
        states: figures that describe a layer, S.
        heads: codes of a layer, H.
        codes: values of a code, A.
        hidden: width.
        seed: seed of the first weights.

    Source: the 4→64→64 network of the tri-segment search.
    """

    def __init__(self, *, states: int, heads: int, codes: int, hidden: int = 64, seed: int = 0) -> None:
        super().__init__()

        def head(out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, out))

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = nn.Sequential(nn.Linear(states, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
            self.heads = nn.ModuleList(head(codes) for _ in range(heads))
            self.critic = head(1)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits `[L, H, A]` and values `[L]` of layers described by `[L, S]`."""
        seen = self.trunk(states)
        return torch.stack([head(seen) for head in self.heads], dim=1), self.critic(seen).squeeze(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Episodes:
    """K episodes of F choices each.

    Args:
        actions: `[K, F]` int64, the choices; any legal one where there was none.
        alive: `[K, F]` bool, whether there was a choice.
        low: `[K, F]` int64, smallest legal choice.
        high: `[K, F]` int64, largest legal choice.
        log_probs: `[K, F]` natural logarithms of the probabilities drawn from; 0 where there was no choice.
        rewards: `[K]`, higher is better.
    """

    actions: Tensor
    alive: Tensor
    low: Tensor
    high: Tensor
    log_probs: Tensor
    rewards: Tensor


def log_probs(logits: Tensor, episodes: Episodes) -> tuple[Tensor, Tensor]:
    """Return how likely the choices of episodes are under other logits, and how open they were.

    Illegal choices get logit −10⁹ before the softmax.

    Args:
        logits: `[F, A]`.
        episodes: K episodes.

    Returns:
        `[K, F]` log-probabilities and `[K, F]` entropies in nats, both 0 where
        there was no choice.
    """
    # What nothing may choose has probability 0, and takes most of the time where ranges are short.
    logits = logits[..., : int(episodes.high.max()) + 1] if len(episodes.high) else logits
    places = torch.arange(logits.shape[-1], device=logits.device)
    legal = (places >= episodes.low.unsqueeze(-1)) & (places <= episodes.high.unsqueeze(-1))
    logs = torch.where(legal, logits, _ILLEGAL).log_softmax(dim=-1)
    chosen = logs.gather(-1, episodes.actions.unsqueeze(-1)).squeeze(-1)
    entropy = -(logs.exp() * torch.where(legal, logs, 0.0)).sum(dim=-1)
    return torch.where(episodes.alive, chosen, 0.0), torch.where(episodes.alive, entropy, 0.0)


def leave_one_out(rewards: Tensor) -> Tensor:
    """Return the advantage of each episode over the mean of the others, in standard deviations.

    a_k = r_k − Σ_{j≠k} r_j / (K−1), divided by the root mean square of a; 0
    where all rewards agree.

    Args:
        rewards: `[K]`, K > 1.

    Source: Kool et al., DeepRLStructPred 2019 (REINFORCE, leave-one-out).
    """
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    advantage = rewards - others
    spread = advantage.square().mean().sqrt()
    return advantage / spread if float(spread) > 1e-12 else torch.zeros_like(advantage)


def discounted(rewards: Tensor, layers: int, gamma: float) -> Tensor:
    """Return the return of each layer in the earlier work's reading of an episode, z-scored.

    Every layer earns r/L, so G_i = (r/L)·(1 − γ^{L−i})/(1 − γ): later layers
    seem to matter less, although one reward belongs to all of them.

    Args:
        rewards: `[K]`.
        layers: L.
        gamma: γ in (0, 1].

    Returns:
        `[K, L]`, over which mean and deviation were taken.
    """
    left = torch.arange(layers, 0, -1, dtype=rewards.dtype, device=rewards.device)
    weight = left if gamma == 1 else (1 - gamma**left) / (1 - gamma)
    returns = rewards.unsqueeze(1) / layers * weight
    return (returns - returns.mean()) / (returns.std(correction=0) + 1e-8)
