"""The state of a neuron module, as the fused blocks read and write it."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError
from sparseflow.nn._stamp import stamp
from sparseflow.ops.lif import LIFParams

__all__ = ["Constants", "Membrane"]

Constants = Callable[[nn.Module], LIFParams]


class Membrane:
    """The state and the constants of a neuron module.

    Args:
        neuron: an IF, LIF or parametric LIF module; its `v` holds the state.
        constants: reads the constants of such a module.
        keep: read and write the state; else every call starts at rest and leaves none.
    """

    def __init__(self, neuron: nn.Module, constants: Constants, *, keep: bool = True) -> None:
        self.neuron: Any = neuron
        self.constants = constants
        self.keep = keep
        self.made: tuple[int, ...] = ()
        self.params = constants(neuron)
        self.steps_in_lead = neuron.step_mode == "m"

    def refresh(self) -> LIFParams:
        """Return the constants, read again if a learnt one was changed."""
        if not torch.compiler.is_compiling() and self.neuron._parameters:
            now = stamp(*self.neuron._parameters.values())
            if now != self.made:
                self.params, self.made = self.constants(self.neuron), now
        return self.params

    def read(self, like: tuple[int, ...]) -> Tensor | None:
        """Return the potential as `like`, or None at rest.

        Raises:
            ConfigError: the state is that of a batch of another shape.
        """
        if not self.keep:
            return None
        v = self.neuron.v
        if isinstance(v, Tensor):
            if v.numel() != math.prod(like):
                raise ConfigError(
                    f"{type(self.neuron).__name__} holds a state of shape {tuple(v.shape)} and got a step of shape "
                    f"{tuple(like)}; call reset_net(model) between inputs"
                )
            return v.view(like) if v.dim() != len(like) else v
        if v == self.params.v_rest:
            return None
        return torch.full(like, float(v))

    def write(self, v: Tensor | None, features: bool) -> None:
        """Keep the potential in the neuron module, in the shape that it would give it."""
        if self.keep and v is not None:
            self.neuron.v = v.flatten(1) if features else v
