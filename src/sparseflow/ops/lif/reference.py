"""The truth of the spiking neuron and of packed spikes, in plain torch."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import ConfigError, DataError

__all__ = ["LIFParams", "lif", "lif_backward", "lif_pack", "or_pool2d", "pack_spikes", "unpack_spikes"]

WORD = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class LIFParams:
    """Constants of one layer of leaky integrate-and-fire neurons.

    A parametric LIF neuron (PLIF) is a "lif" with `tau = 1 / sigmoid(w)`.

    Args:
        tau: membrane time constant in steps; not read by kind "if".
        v_threshold: potential at which a neuron fires.
        v_reset: potential after a spike (hard reset), or None to subtract
            the threshold (soft reset).
        decay_input: the input is divided by `tau` like the membrane.
        kind: "lif", or "if" for no leak at all.

    Raises:
        ConfigError: a value that is not finite, `tau` not positive, or another kind.
    """

    tau: float = 2.0
    v_threshold: float = 1.0
    v_reset: float | None = 0.0
    decay_input: bool = True
    kind: str = "lif"

    def __post_init__(self) -> None:
        """Check the fields."""
        if self.kind not in ("lif", "if"):
            raise ConfigError(f"LIFParams.kind is {self.kind!r}; expected 'lif' or 'if'")
        if not (math.isfinite(self.tau) and self.tau > 0):
            raise ConfigError(f"LIFParams.tau is {self.tau}; expected a positive number")
        for name in ("v_threshold", "v_reset"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"LIFParams.{name} is {value}; expected a finite number")

    @property
    def v_rest(self) -> float:
        """Potential before the first step: `v_reset`, or 0 with a soft reset."""
        return 0.0 if self.v_reset is None else self.v_reset


class _Heaviside(torch.autograd.Function):
    """Step function whose gradient is the arctangent surrogate with alpha = 2."""

    @staticmethod
    def forward(ctx: Any, u: Tensor) -> Tensor:
        ctx.save_for_backward(u)
        return (u >= 0).to(u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (u,) = ctx.saved_tensors
        return grads[0].div(1 + (math.pi * u) ** 2)


def charge(v: Tensor, x: Tensor, params: LIFParams) -> Tensor:
    """Return the potential after one input, before any spike."""
    if params.kind == "if":
        return v + x
    if params.decay_input:
        return v + (x - (v - params.v_rest)) / params.tau
    return v - (v - params.v_rest) / params.tau + x


def discharge(h: Tensor, s: Tensor, params: LIFParams) -> Tensor:
    """Return the potential after the spikes."""
    return h - params.v_threshold * s if params.v_reset is None else h * (1 - s) + params.v_reset * s


def lif(x: Tensor, params: LIFParams, *, steps: int, v0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Integrate and fire over all time steps; see `sparseflow.ops.lif.lif`.

    >>> lif(torch.tensor([1.5, 1.5, 3.0]), LIFParams(), steps=3)
    (tensor([0., 1., 1.]), tensor([0.]))
    """
    x = x.reshape(steps, x.shape[0] // steps, *x.shape[1:])
    v = torch.full_like(x[0], params.v_rest) if v0 is None else v0
    spikes = []
    for t in range(steps):
        h = charge(v, x[t], params)
        s = _Heaviside.apply(h - params.v_threshold)  # type: ignore[no-untyped-call]
        v = discharge(h, s, params)
        spikes.append(s)
    return torch.cat(spikes), v


def lif_backward(
    grad_spikes: Tensor,
    grad_v: Tensor,
    x: Tensor,
    params: LIFParams,
    *,
    steps: int,
    v0: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `x` and `v0` by hand, where autograd is switched off.

    Args:
        grad_spikes: `[T*N, ...]` gradient of the spikes.
        grad_v: `[N, ...]` gradient of the last potential.
        x: `[T*N, ...]` input of the forward pass.
        params: constants of the neurons.
        steps: T.
        v0: potential before the first step, or None.
    """
    x = x.reshape(steps, x.shape[0] // steps, *x.shape[1:])
    grad_spikes = grad_spikes.reshape(x.shape)
    v = torch.full_like(x[0], params.v_rest) if v0 is None else v0
    over = []
    for t in range(steps):
        h = charge(v, x[t], params)
        over.append(h - params.v_threshold)
        v = discharge(h, (over[t] >= 0).to(h), params)
    keep = 1.0 if params.kind == "if" else 1.0 - 1.0 / params.tau
    gain = 1.0 / params.tau if params.kind == "lif" and params.decay_input else 1.0
    grad_x = []
    for t in reversed(range(steps)):
        u, s = over[t], (over[t] >= 0).to(x)
        h = u + params.v_threshold
        by_spike = -params.v_threshold if params.v_reset is None else params.v_reset - h
        by_charge = 1.0 if params.v_reset is None else 1 - s
        grad_h = grad_v * by_charge + (grad_spikes[t] + grad_v * by_spike) / (1 + (math.pi * u) ** 2)
        grad_x.append(gain * grad_h)
        grad_v = keep * grad_h
    return torch.cat(grad_x[::-1]), grad_v


def lif_pack(x: Tensor, params: LIFParams, *, steps: int, v0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """`lif`, with the spikes packed."""
    spikes, v = lif(x, params, steps=steps, v0=v0)
    return pack_spikes(spikes), v


def pack_spikes(x: Tensor, planes: int = 1) -> Tensor:
    """Pack spikes or counts into words; see `sparseflow.ops.lif.pack_spikes`.

    >>> pack_spikes(torch.tensor([[1.0, 0.0, 1.0]]))
    tensor([[[[5]]]], dtype=torch.int32)
    >>> pack_spikes(torch.tensor([[3.0, 0.0, 2.0]]), 2)
    tensor([[[[1, 5]]]], dtype=torch.int32)
    """
    x = x[:, :, None, None] if x.ndim == 2 else x
    if planes == 1:
        if not bool(((x == 0) | (x == 1)).all()):
            raise DataError("pack_spikes: the input holds values other than 0 and 1; only spikes pack into bits")
        return _words(x)
    if not bool(((x >= 0) & (x < 2**planes) & (x == x.trunc())).all()):
        raise DataError(f"pack_spikes: the input holds values that are not whole numbers below {2**planes}")
    counts = x.to(torch.int64)
    return torch.cat([_words((counts >> p) & 1) for p in range(planes)], dim=-1)


def _words(x: Tensor) -> Tensor:
    bits = x.permute(0, 2, 3, 1).to(torch.int64)
    bits = F.pad(bits, (0, -bits.shape[-1] % WORD))
    bits = bits.reshape(*bits.shape[:-1], bits.shape[-1] // WORD, WORD)
    words = (bits << torch.arange(WORD, device=x.device)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)


def unpack_spikes(words: Tensor, channels: int, dtype: torch.dtype = torch.float32, planes: int = 1) -> Tensor:
    """Unpack words into spikes or counts; see `sparseflow.ops.lif.unpack_spikes`.

    >>> unpack_spikes(torch.tensor([[[[5]]]], dtype=torch.int32), 3).flatten()
    tensor([1., 0., 1.])
    """
    bits = (words.unsqueeze(-1) >> torch.arange(WORD, device=words.device)) & 1
    bits = bits.reshape(*words.shape[:-1], planes, words.shape[-1] // planes * WORD)
    counts: Tensor = (bits << torch.arange(planes, device=words.device)[:, None]).sum(-2)
    return counts[..., :channels].permute(0, 3, 1, 2).to(dtype)


def or_pool2d(words: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Max-pool packed spikes; see `sparseflow.ops.lif.or_pool2d`."""
    spikes = unpack_spikes(words, words.shape[-1] * WORD)
    return pack_spikes(F.max_pool2d(spikes, kernel, stride, padding))
