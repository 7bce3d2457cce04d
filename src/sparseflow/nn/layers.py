"""Stateless layers for one step `[N, C, H, W]` or a sequence `[T, N, C, H, W]`.

Each is torch's own layer with its name, arguments and state dict; a sequence is
folded into the batch for the call, since these layers treat steps alike.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparseflow.errors import ConfigError

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "BatchNorm2d", "Conv2d", "Grid", "MaxPool2d", "Repeat"]


def _fold(call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if x.ndim != 5:
        return call(x)
    y = call(x.flatten(0, 1))
    return y.view(x.shape[0], x.shape[1], *y.shape[1:])


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` on 4-D or 5-D inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve every step."""
        return _fold(super().forward, x)


class BatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` on 4-D or 5-D inputs; statistics over steps and batch."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every step."""
        return _fold(super().forward, x)


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d` on 4-D or 5-D inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool every step."""
        return _fold(super().forward, x)


class AvgPool2d(nn.AvgPool2d):
    """`torch.nn.AvgPool2d` on 4-D or 5-D inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool every step."""
        return _fold(super().forward, x)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d` on 4-D or 5-D inputs."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool every step."""
        return _fold(super().forward, x)


class Repeat(nn.Module):
    """Give a static input its time axis: `[N, ...]` → `[T, N, ...]`, without a copy.

    A `[T, N, C, H, W]` input passes unchanged, with the T it brings.

    Args:
        steps: number of time steps T.

    Raises:
        ConfigError: `steps` below 1.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise ConfigError(f"steps is {steps}; expected at least 1")
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` seen at every step."""
        return x if x.ndim == 5 else x.unsqueeze(0).expand(self.steps, *x.shape)

    def extra_repr(self) -> str:
        """Return the number of steps."""
        return f"steps={self.steps}"


class Grid(nn.Module):
    """Round numbers to whole multiples of 2^-bits, ties to even: y = round(x · 2^bits) / 2^bits.

    In front of a convolution whose weights lie on grids of powers of two it makes the
    currents of an image exact in float32, whatever the order of the sums, as those of
    spikes are. No gradient passes.

    Args:
        bits: binary places that are kept, 0 to 16.

    Raises:
        ConfigError: `bits` out of range.

    >>> Grid(2)(torch.tensor([0.3, -1.1]))
    tensor([ 0.2500, -1.0000])
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 0 <= bits <= 16:
            raise ConfigError(f"bits is {bits}; expected 0 to 16")
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        """Round every number."""
        return torch.round(x * 2.0**self.bits) * 2.0**-self.bits

    def extra_repr(self) -> str:
        """Return the places that are kept."""
        return f"bits={self.bits}"
