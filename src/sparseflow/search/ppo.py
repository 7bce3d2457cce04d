"""Proximal policy optimisation over ordered codes, layer by layer."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.search.heads import Heads
from sparseflow.search.parameter import Value
from sparseflow.search.policy import Episodes, Policy, discounted, leave_one_out, log_probs
from sparseflow.search.proposer import Learner
from sparseflow.search.space import Params, Space
from sparseflow.search.trial import Outcome, Score

__all__ = ["PPO", "PPOSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PPOSettings:
    """How PPO learns.

    Args:
        joint: the codes of all layers are one action, and its advantage is
            over the mean of the other episodes. Otherwise each layer is a step
            of an episode, with discounted returns and a critic as baseline.
        episodes: scores learned from at a time. None: as many as make
            episodes times layers a multiple of `update_timestep`.
        update_timestep: see `episodes`.
        lr: learning rate of Adam.
        clip: how far the ratio of probabilities may leave 1.
        epochs: steps of Adam on the same episodes.
        value_coef: weight of the critic's squared error.
        entropy_coef: weight of the entropy.
        gamma: discount of the steps.
        hidden: width of the network.
        codes: outputs of a head; None means as many as the widest range needs.
        spread: standard deviation around a start in parts of a head's range,
            by which the first policy is drawn to the start; None for none.

    Raises:
        ConfigError: a number is out of its range.
    """

    joint: bool = True
    episodes: int | None = 16
    update_timestep: int = 50
    lr: float = 1e-2
    clip: float = 0.2
    epochs: int = 4
    value_coef: float = 0.5
    entropy_coef: float = 0.01
    gamma: float = 0.99
    hidden: int = 64
    codes: int | None = None
    spread: float | None = 0.03

    def __post_init__(self) -> None:
        """Check every number."""
        positive = {"lr": self.lr, "clip": self.clip, "epochs": self.epochs, "hidden": self.hidden}
        positive |= {"update_timestep": self.update_timestep, "spread": 1.0 if self.spread is None else self.spread}
        for name, value in positive.items():
            if not value > 0:
                raise ConfigError(f"{name} of PPO is {value}; expected more than 0")
        if self.episodes is not None and self.episodes < 2:
            raise ConfigError(f"PPO learns from {self.episodes} episodes at a time; it needs at least 2 to compare")
        if not 0 < self.gamma <= 1:
            raise ConfigError(f"gamma of PPO is {self.gamma}; expected 0 < gamma <= 1")

    @classmethod
    def original(cls, *, lr: float = 3e-4) -> "PPOSettings":
        """Return the settings of the tri-segment search's first PPO, faults included.

        Steps, discount and critic for what is one choice; an update whenever
        episodes times layers is a multiple of 50; 256 outputs a head; no start.

        Args:
            lr: its documented command says 3e-4; left out there, it was .01.
        """
        return cls(joint=False, episodes=None, lr=lr, codes=256, spread=None)


@dataclass(frozen=True, slots=True)
class _Episode:
    """Choices in the order of the space; action -1 where there was none."""

    actions: list[int]
    low: list[int]
    high: list[int]
    log_probs: list[float]


class PPO(Learner[_Episode]):
    """Proximal policy optimisation of codes per layer, masked to what is legal.

    A parameter named `layer.code` is drawn by the head of its code from the
    state of its layer, in the order of the space; a `Between` masks its head
    by what was drawn before. Parameters without a dot share one layer. One
    policy serves all layers, so their states must tell them apart.

    Each trial's `info` holds the log-probabilities it was drawn with
    (`log_probs`, 0 for what did not exist) and the number of updates before
    (`updates`).

    Args:
        space: what may be tried; finite.
        seed: seed of the weights and of all draws.
        start: parameters to try first, around which the first policy lies.
        states: a few figures for each layer, by its name; None numbers them.
        settings: how it learns.

    Raises:
        ConfigError: a parameter is continuous, the states do not fit the
            layers, a code does not fit `settings.codes`, or `start` is not in
            the space.

    Source: Schulman et al., 2017; the tri-segment search for the network.
    """

    def __init__(
        self,
        space: Space,
        *,
        seed: int = 0,
        start: Params | None = None,
        states: Mapping[str, Sequence[float]] | None = None,
        settings: PPOSettings | None = None,
    ) -> None:
        super().__init__(space, seed=seed, start=start, tries=8)
        self.settings = s = settings or PPOSettings()
        heads = Heads(space, s.codes)
        self.layers, self._choices = heads.layers, heads.choices
        self._layer = torch.tensor([c.layer for c in self._choices], dtype=torch.long)
        self._head = torch.tensor([c.head for c in self._choices], dtype=torch.long)
        self._states = _states(self.layers, states)
        self._policy = Policy(
            states=self._states.shape[1], heads=len(heads.names), codes=heads.codes, hidden=s.hidden, seed=seed
        )
        self._adam = torch.optim.Adam(self._policy.parameters(), lr=s.lr)
        self._prior = self._around(start, heads.codes)
        self._every = s.episodes or max(2, s.update_timestep // math.gcd(s.update_timestep, len(self.layers)))
        self._told: list[tuple[_Episode, float | None]] = []
        self._updates = 0
        self._logits = self._current()

    def mode(self) -> dict[str, Value]:
        """Return what the policy holds most likely, code after code."""
        return self._walk(lambda weights: int(weights.argmax()))[1]

    def _info(self, text: str) -> Mapping[str, Any]:
        tickets = self._open.get(text)
        return {"log_probs": tuple(tickets[-1].log_probs), "updates": self._updates} if tickets else {}

    def _around(self, start: Params | None, codes: int) -> Tensor:
        prior = torch.zeros(len(self._choices), codes)
        if start is None or self.settings.spread is None:
            return prior
        for i, c in enumerate(self._choices):
            if c.parameter.name in start:
                at = c.output(start[c.parameter.name])
                width = max(self.settings.spread * len(c.values), 0.5)
                prior[i] = -0.5 * ((torch.arange(codes) - at) / width).square()
        return prior

    def _current(self) -> npt.NDArray[np.float64]:
        with torch.no_grad():
            logits, _ = self._policy(self._states)
            out: npt.NDArray[np.float64] = (logits[self._layer, self._head] + self._prior).double().numpy()
        return out

    def _suggest(self) -> tuple[_Episode, dict[str, Value]]:
        def draw(weights: npt.NDArray[np.float64]) -> int:
            heaps = weights.cumsum()
            return min(int(np.searchsorted(heaps, self._rng.random() * heaps[-1], side="right")), len(heaps) - 1)

        return self._walk(draw)

    def _walk(self, pick: Callable[[npt.NDArray[np.float64]], int]) -> tuple[_Episode, dict[str, Value]]:
        episode, out = _Episode([], [], [], []), dict[str, Value]()
        for i, c in enumerate(self._choices):
            at, low, high = -1, 0, 0
            log_prob = 0.0
            if (legal := c.legal(out)) is not None:
                low, high = legal
                row = self._logits[i, low : high + 1]
                weights = np.exp(row - row.max())
                at = low + pick(weights)
                log_prob = float(np.log(weights[at - low] / weights.sum()))
                out[c.parameter.name] = c.values[at - c.shift]
            for column, figure in zip((episode.actions, episode.low, episode.high), (at, low, high), strict=True):
                column.append(figure)
            episode.log_probs.append(log_prob)
        return episode, out

    def _learn(self, ticket: _Episode, params: dict[str, Value], outcome: Outcome) -> None:
        self._told.append((ticket, -outcome.value if isinstance(outcome, Score) else None))
        if len(self._told) >= self._every:
            told, self._told = self._told, []
            rewards = [r for _, r in told if r is not None]
            # A failure ranks as far below the worst score as that lies below the best.
            failed = min(rewards) - ((max(rewards) - min(rewards)) or 1.0) if rewards else 0.0
            self._update([e for e, _ in told], [failed if r is None else r for _, r in told])

    def _update(self, episodes: list[_Episode], rewards: list[float]) -> None:
        s = self.settings
        actions = torch.tensor([e.actions for e in episodes])
        batch = Episodes(
            actions=actions.clamp(min=0),
            alive=actions >= 0,
            low=torch.tensor([e.low for e in episodes]),
            high=torch.tensor([e.high for e in episodes]),
            log_probs=torch.tensor([e.log_probs for e in episodes]),
            rewards=torch.tensor(rewards, dtype=torch.float64),
        )
        with _one_thread(), torch.enable_grad():
            for _ in range(s.epochs):
                loss = self._loss(batch)
                self._adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._adam.step()
        self._updates += 1
        self._logits = self._current()

    def _loss(self, batch: Episodes) -> Tensor:
        s, layers = self.settings, len(self.layers)
        logits, values = self._policy(self._states)
        now, entropy = log_probs(logits[self._layer, self._head] + self._prior, batch)
        change, critic = now - batch.log_probs, torch.zeros(())
        if s.joint:
            change, entropy = change.sum(dim=1), entropy.sum(dim=1)
            advantage = leave_one_out(batch.rewards).float()
        else:
            change, entropy = (_by_layer(x, self._layer, layers) for x in (change, entropy))
            returns = discounted(batch.rewards, layers, s.gamma).float()
            advantage = returns - values.detach()
            critic = (returns - values).square().mean()
        ratio = change.exp()
        gained = torch.minimum(ratio * advantage, ratio.clamp(1 - s.clip, 1 + s.clip) * advantage).mean()
        return s.value_coef * critic - gained - s.entropy_coef * entropy.mean()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run on one thread: the tensors are so small that threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _by_layer(x: Tensor, layer: Tensor, layers: int) -> Tensor:
    return torch.zeros(len(x), layers).index_add(1, layer, x)


def _states(layers: tuple[str, ...], states: Mapping[str, Sequence[float]] | None) -> Tensor:
    if states is None:
        return torch.eye(len(layers))
    if set(states) != set(layers):
        raise ConfigError(f"states are given for {sorted(states)}; the space has the layers {sorted(layers)}")
    rows = [list(states[layer]) for layer in layers]
    if len({len(row) for row in rows}) > 1 or not rows[0] or not all(math.isfinite(x) for row in rows for x in row):
        raise ConfigError(f"each layer needs the same number of finite figures as its state; got {rows}")
    return torch.tensor(rows, dtype=torch.float32)
