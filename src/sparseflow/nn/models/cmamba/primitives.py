"""The primitives that a CMamba is made of, and the float32 ones.

The forward of the network (`blocks`, `model`) calls nothing but primitives, `reshape`, `swapaxes` and slices, which
tensors and NumPy arrays both have. A number system is a set of primitives: another one, as integers, brings another
`Primitives` and shares the forward.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparseflow.ops.selective_scan import selective_scan

__all__ = [
    "AddPools",
    "CausalConv",
    "Float",
    "Gate",
    "Patches",
    "Pool",
    "Position",
    "Primitives",
    "RMSNorm",
    "Residual",
    "Restore",
    "Scan",
    "Standardize",
    "sincos",
]


def sincos(length: int, width: int) -> Tensor:
    """Return the positional encoding `[K, D]` in float32, each number rounded once from float64.

    pe[k, 2i] = sin(k · 10000^(−2i/D)), pe[k, 2i+1] = cos(the same); an odd D ends with a sine.

    Args:
        length: positions K.
        width: D.

    >>> sincos(2, 3)
    tensor([[0.0000, 1.0000, 0.0000],
            [0.8415, 0.5403, 0.0022]])
    """
    column = torch.arange(width, dtype=torch.float64)
    rate = torch.exp(-math.log(10000.0) * 2 * (column // 2) / width)
    angle = torch.arange(length, dtype=torch.float64).unsqueeze(1) * rate
    return torch.where(column % 2 == 0, angle.sin(), angle.cos()).float()


class Standardize(nn.Module):
    """Bring each series to mean 0 and deviation 1 over time: `[..., L]`.

    y = (x − μ)/σ, μ = mean x, σ = √(mean (x − μ)² + ε).

    Args:
        eps: ε, 1e-5 in the paper.
    """

    def __init__(self, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, and μ and σ of shape `[..., 1]`."""
        mean = x.mean(-1, keepdim=True)
        x = x - mean
        std = (x.square().mean(-1, keepdim=True) + self.eps).sqrt()
        return x / std, mean, std


class Restore(nn.Module):
    """Undo `Standardize` on a forecast: y·σ + μ."""

    def forward(self, y: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """Return the forecast `[..., F]` at the level of its past."""
        return torch.addcmul(mean, y, std)


class Patches(nn.Module):
    """Cut series into overlapping patches: `[..., L]` → `[..., K, P]`; patch k starts at k·S.

    Args:
        size: P.
        stride: S.
        padding: how often the last value is repeated first.
    """

    def __init__(self, size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.size, self.stride, self.padding = size, stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Return the patches."""
        if self.padding:
            x = torch.cat((x, x[..., -1:].expand(*x.shape[:-1], self.padding)), -1)
        return x.unfold(-1, self.size, self.stride)

    def extra_repr(self) -> str:
        """Return the sizes."""
        return f"size={self.size}, stride={self.stride}, padding={self.padding}"


class Position(nn.Module):
    """Add the positional encoding: `[..., K, D]`. It is made anew, never stored with the weights.

    Args:
        length: K.
        width: D.
    """

    pe: Tensor

    def __init__(self, length: int, width: int) -> None:
        super().__init__()
        self.register_buffer("pe", sincos(length, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens with their positions."""
        return x + self.pe


class RMSNorm(nn.Module):
    """y = x · (mean x² + ε)^(−1/2) · w over the last axis.

    Args:
        width: D.
        eps: ε.

    >>> RMSNorm(2, 1e-6)(torch.tensor([3.0, 4.0]))
    tensor([0.8485, 1.1314], grad_fn=...)
    """

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return the normalised tokens."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """Return width and ε."""
        return f"{self.weight.numel()}, eps={self.eps}"


class CausalConv(nn.Conv1d):
    """Convolve each channel with its own past: `[B, K, E]`; y[k] reads x[k − taps + 1] … x[k], zeros before the first.

    Args:
        width: channels E.
        taps: length of the kernel.
        bias: with a bias.
    """

    def __init__(self, width: int, taps: int, bias: bool) -> None:
        super().__init__(width, width, taps, groups=width, padding=taps - 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved tokens."""
        return super().forward(x.swapaxes(1, 2))[..., : x.shape[1]].swapaxes(1, 2)


class Scan(nn.Module):
    """The selective scan with softplus, skip and gate; see `sparseflow.ops.selective_scan`."""

    def forward(self, x: Tensor, dt: Tensor, a_log: Tensor, b: Tensor, c: Tensor, d: Tensor, z: Tensor) -> Tensor:
        """Return y `[B, K, E]`."""
        y: Tensor = selective_scan(x, dt, a_log, b, c, d, z)
        return y


class Pool(nn.Module):
    """Mean and maximum over the last axis: `[..., D]` → `[2, ...]`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return both, the mean first."""
        return torch.stack((x.mean(-1), x.amax(-1)))


class AddPools(nn.Module):
    """Sum over the first axis of two: `[2, ...]` → `[...]`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        return x[0] + x[1]


class Gate(nn.Module):
    """y·σ(scale) + σ(shift)."""

    def forward(self, y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Return the gated tokens; `scale` and `shift` spread over the last axis of `y`."""
        return torch.addcmul(shift.sigmoid(), y, scale.sigmoid())


class Residual(nn.Module):
    """x + y: the one place where a block's input is added to its output."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum."""
        return x + y


Leaf = Callable[..., Any]


class Primitives(Protocol):
    """A number system: how each primitive is made. Each method returns a module that computes it.

    The modules take and return what those of `Float` do, in their own numbers.
    """

    def standardize(self) -> nn.Module:
        """Make the instance norm, `[B, V, L]` → y, μ, σ."""

    def restore(self) -> nn.Module:
        """Make its inverse, `(y, μ, σ)` → forecast."""

    def patches(self, size: int, stride: int, padding: int) -> nn.Module:
        """Make the cut into patches."""

    def position(self, length: int, width: int) -> nn.Module:
        """Make the positional encoding."""

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """Make a linear layer over the last axis."""

    def rms_norm(self, width: int, eps: float) -> nn.Module:
        """Make an RMSNorm."""

    def silu(self) -> nn.Module:
        """Make x·σ(x)."""

    def gelu(self) -> nn.Module:
        """Make the exact GELU."""

    def conv(self, width: int, taps: int, *, bias: bool) -> nn.Module:
        """Make the causal convolution of each channel."""

    def scan(self) -> nn.Module:
        """Make the selective scan."""

    def pool(self) -> nn.Module:
        """Make mean and maximum over the last axis."""

    def add_pools(self) -> nn.Module:
        """Make the sum of what became of the mean and of the maximum, over the first axis."""

    def gate(self) -> nn.Module:
        """Make y·σ(scale) + σ(shift)."""

    def residual(self) -> nn.Module:
        """Make x + y."""

    def dropout(self, share: float) -> nn.Module:
        """Make what drops in training and passes all else."""


class Float:
    """The number system of training: torch's floating-point numbers."""

    def standardize(self) -> nn.Module:
        """Return `Standardize`."""
        return Standardize()

    def restore(self) -> nn.Module:
        """Return `Restore`."""
        return Restore()

    def patches(self, size: int, stride: int, padding: int) -> nn.Module:
        """Return `Patches`."""
        return Patches(size, stride, padding)

    def position(self, length: int, width: int) -> nn.Module:
        """Return `Position`."""
        return Position(length, width)

    def linear(self, inputs: int, outputs: int, *, bias: bool) -> nn.Module:
        """Return `torch.nn.Linear`; one without inputs or outputs passes zeros, as the paper's at V < r."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Initializing zero-element tensors")
            return nn.Linear(inputs, outputs, bias=bias)

    def rms_norm(self, width: int, eps: float) -> nn.Module:
        """Return `RMSNorm`."""
        return RMSNorm(width, eps)

    def silu(self) -> nn.Module:
        """Return `torch.nn.SiLU`."""
        return nn.SiLU()

    def gelu(self) -> nn.Module:
        """Return `torch.nn.GELU`, exact."""
        return nn.GELU()

    def conv(self, width: int, taps: int, *, bias: bool) -> nn.Module:
        """Return `CausalConv`."""
        return CausalConv(width, taps, bias)

    def scan(self) -> nn.Module:
        """Return `Scan`."""
        return Scan()

    def pool(self) -> nn.Module:
        """Return `Pool`."""
        return Pool()

    def add_pools(self) -> nn.Module:
        """Return `AddPools`."""
        return AddPools()

    def gate(self) -> nn.Module:
        """Return `Gate`."""
        return Gate()

    def residual(self) -> nn.Module:
        """Return `Residual`."""
        return Residual()

    def dropout(self, share: float) -> nn.Module:
        """Return `torch.nn.Dropout`."""
        return nn.Dropout(share)
