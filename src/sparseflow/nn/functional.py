"""Functions over whole spiking networks."""

from typing import Any, cast

from torch import nn

from sparseflow.errors import ConfigError

__all__ = ["reset_net", "set_step_mode"]


def reset_net(net: nn.Module) -> None:
    """Reset every module of `net` that has a `reset()` method.

    Works on SpikingJelly networks too. Call it between unrelated inputs.

    >>> from sparseflow.nn.neurons import IFNode
    >>> net = nn.Sequential(IFNode()); net[0].v = 0.7; reset_net(net); net[0].v
    0.0
    """
    for module in net.modules():
        # Not getattr: nn.Module takes microseconds to find that it has no such attribute.
        if callable(getattr(type(module), "reset", None)) or callable(vars(module).get("reset")):
            cast(Any, module).reset()


def set_step_mode(net: nn.Module, step_mode: str) -> None:
    """Set `step_mode` on every module of `net` that has one.

    Raises:
        ConfigError: not "s" or "m".
    """
    if step_mode not in ("s", "m"):
        raise ConfigError(f"step_mode is {step_mode!r}; expected 's' or 'm'")
    for module in net.modules():
        if hasattr(module, "step_mode"):
            cast(Any, module).step_mode = step_mode
