"""A search for codes as a Gymnasium environment, for reinforcement learning by any library; needs gymnasium."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.spaces import Box, Discrete
from torch import Tensor

from sparseflow.compress.approximate.evaluator import Scores
from sparseflow.compress.approximate.space import CodeSpace
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import CODES, NAMES
from sparseflow.search.parameter import Integer, Parameter

__all__ = ["CodesEnv"]

_STATE = 4


class CodesEnv(gymnasium.Env[npt.NDArray[np.float32], np.int64]):
    """An episode chooses all codes of a network, one a step: t1, t2, v1 and v2 of the first site, then of the second.

    An action is a code, 0 to 255. Which codes are legal depends on those chosen before (t1 < v1 < t2 < v2 ≤ tmax, as
    the masks of the space say): `action_masks()` tells, as MaskablePPO of sb3-contrib asks, and so does
    `info["action_mask"]`, as `action_space.sample` takes it. An illegal action becomes the nearest legal one, and
    `info["clamped"]` counts these.

    An observation holds, float32 in 0..1: four figures of the site (its place, and mean, deviation and 90th percentile
    of its codes); which code is next, one-hot in the order t1, v1, t2, v2, tmax; and the codes of the site that are
    chosen, over 255, 0 where there is none yet.

    The reward is that of the configuration, −KD − weight·AT, and comes with the last step, since nothing is known
    before; the earlier project spread it over the steps, which sums to the same. Nothing is drawn at random: equal
    actions have equal rewards.

    Args:
        space: the configurations.
        states: four figures of each site, as `layer_states` gives them.
        score: scores configurations, int64 `[1, L, 5]`, as `Evaluator.score`.

    Raises:
        ConfigError: a site without its four figures.

    Source: state and action of the earlier project's PPO; https://gymnasium.farama.org/api/env.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012

    def __init__(
        self, space: CodeSpace, states: Mapping[str, Sequence[float]], score: Callable[[Tensor], Scores]
    ) -> None:
        if any(len(states.get(name, ())) != _STATE for name in space.names):
            raise ConfigError(f"states has {sorted(states)}; expected {_STATE} figures for each of {space.names}")
        self._codes, self._score = space, score
        self._parameters: tuple[Parameter, ...] = space.space.parameters
        self._states = {name: np.clip(np.asarray(states[name], dtype=np.float32), 0, 1) for name in space.names}
        self._tmax = dict(zip(space.names, space.tmax, strict=True))
        self._chosen: dict[str, int] = {}
        self._clamped = 0
        self.action_space = Discrete(CODES)
        self.observation_space = Box(0.0, 1.0, (_STATE + 2 * len(NAMES),), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[npt.NDArray[np.float32], dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: of Gymnasium's own generator, which nothing here reads.
            options: none are known.
        """
        super().reset(seed=seed)
        self._chosen, self._clamped = {}, 0
        return self._observation(), self._info()

    def step(self, action: np.int64 | int) -> tuple[npt.NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Choose the next code.

        Args:
            action: the code.

        Returns:
            Observation, reward, whether the episode is over, False, and the info: "action_mask", "clamped", and at the
            end "codes" `[L][5]`, "kd", "at" and "agreement".

        Raises:
            ConfigError: the action is no code, or the episode is over.
        """
        if not self.action_space.contains(np.int64(action)):
            raise ConfigError(f"action is {action!r}; expected a code of 0 to {CODES - 1}")
        left = self._next()
        if left is None:
            raise ConfigError("the episode is over; call reset before the next step")
        code = min(max(int(action), left.low), left.high)
        self._clamped += code != int(action)
        self._chosen[left.name] = code
        if self._next() is not None:
            return self._observation(), 0.0, False, False, self._info()
        codes = self._codes.codes([self._chosen])
        scores = self._score(codes)
        told = {name: float(getattr(scores, name)[0]) for name in ("kd", "at", "agreement")}
        info = self._info() | told | {"codes": codes[0].tolist()}
        return self._observation(), float(scores.reward[0]), True, False, info

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which codes are legal now, `[256]`; all where the episode is over."""
        left = self._next()
        codes = np.arange(CODES)
        return np.ones(CODES, dtype=np.bool_) if left is None else (codes >= left.low) & (codes <= left.high)

    def _next(self) -> Integer | None:
        """Return the next code with the range that those before leave it, or None at the end."""
        if len(self._chosen) == len(self._parameters):
            return None
        left = self._parameters[len(self._chosen)].given(self._chosen)
        assert isinstance(left, Integer)
        return left

    def _observation(self) -> npt.NDArray[np.float32]:
        at = min(len(self._chosen), len(self._parameters) - 1)
        site, _, code = self._parameters[at].name.rpartition(".")
        follows = np.array([name == code for name in NAMES], dtype=np.float32)
        fixed = {"tmax": self._tmax[site]} if self._codes.reach == 0 else {}
        chosen = [self._chosen.get(f"{site}.{name}", fixed.get(name, 0)) for name in NAMES]
        return np.concatenate([self._states[site], follows, np.asarray(chosen, dtype=np.float32) / (CODES - 1)])

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks().astype(np.int8), "clamped": self._clamped}
