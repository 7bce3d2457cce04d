"""The scan in plain torch over all sequences, channels and states at once, and its gradient by hand; any device."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from sparseflow.ops.selective_scan.reference import Operands

__all__ = ["backward", "forward"]

CHUNK = 16
"""Steps whose decays and states are held at once."""


def forward(given: Operands) -> tuple[Tensor, Tensor]:
    """Return y `[B, K, E]` in the type of `x`, and the state `[B, E, N]` after the last step."""
    parts = _Parts(given)
    y = torch.empty_like(parts.x)
    h = parts.start
    for now in parts.chunks():
        hs = parts.states(now, h)[1]
        y[:, now] = (hs * parts.C[:, now, None, :]).sum(-1)
        h = hs[:, -1]
    if parts.D is not None:
        y += parts.D * parts.x
    if given.z is not None:
        y *= functional.silu(given.z.to(given.dtype))
    return y.to(given.x.dtype), h.clone()


def backward(given: Operands, grad_y: Tensor, grad_state: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradients of the nine tensors in the order of `Operands`, None where there is none.

    The states are computed anew, from those at the start of each chunk.

    Args:
        given: what the scan read.
        grad_y: gradient of y.
        grad_state: gradient of the last state, or None for 0.
    """
    parts = _Parts(given)
    grad_y = grad_y.to(given.dtype)
    starts, h = [], parts.start
    for now in parts.chunks():
        starts.append(h)
        h = parts.states(now, h)[1][:, -1].clone()
    carry = torch.zeros_like(parts.start) if grad_state is None else grad_state.to(given.dtype).clone()
    gy = grad_y if given.z is None else grad_y * functional.silu(given.z.to(given.dtype))
    y = torch.empty_like(parts.x)
    gx, gdelta = torch.empty_like(parts.x), torch.empty_like(parts.x)
    gB, gC = torch.empty_like(parts.B), torch.empty_like(parts.C)
    gA = parts.A.new_zeros(parts.start.shape[1:])
    for now, h in zip(reversed(list(parts.chunks())), reversed(starts), strict=True):
        a, hs = parts.states(now, h)
        B, C, x, delta = parts.B[:, now, None, :], parts.C[:, now, None, :], parts.x[:, now], parts.delta[:, now]
        y[:, now] = (hs * C).sum(-1)
        gC[:, now] = (gy[:, now, :, None] * hs).sum(2)
        gh = gy[:, now, :, None] * C
        for k in reversed(range(gh.shape[1])):
            gh[:, k] += carry
            carry = a[:, k] * gh[:, k]
        gB[:, now] = (gh * (delta * x)[..., None]).sum(2)
        through = (gh * B).sum(-1)
        before = torch.cat([h[:, None], hs[:, :-1]], 1)
        decay = gh * before * a
        gx[:, now] = through * delta
        gdelta[:, now] = through * x + (decay * parts.A).sum(-1)
        gA += (decay * delta[..., None]).sum((0, 1))
    gD = gz = None
    if parts.D is not None and given.D is not None:
        gD = gy * parts.x
        gx += gy * parts.D
        y += parts.D * parts.x
        gD = gD.sum((0, 1)) if given.D.ndim == 1 else gD
    if given.z is not None:
        z = given.z.to(given.dtype)
        s = torch.sigmoid(z)
        gz = grad_y * y * s * (1 + z * (1 - s))
    gdt = gdelta * torch.sigmoid(parts.before) if given.softplus else gdelta
    gA = gA * parts.A
    gA = gA.sum(0, keepdim=True) if given.A_log.shape[0] == 1 else gA
    grads = (gx, gdt, gA, gB, gC, gD, gz, gdt.sum((0, 1)), carry)
    return tuple(None if t is None or g is None else g.to(t.dtype) for t, g in zip(given.tensors(), grads, strict=True))


class _Parts:
    """The operands in the type of the computation, and what each step needs of them."""

    def __init__(self, given: Operands) -> None:
        real = given.dtype
        batch, self.steps, channels, states = given.shape
        self.x, self.B, self.C = (t.to(real) for t in (given.x, given.B, given.C))
        self.D = None if given.D is None else given.D.to(real)
        self.A = -torch.exp(given.A_log.to(real))
        dt = given.dt.to(real)
        self.before = dt if given.dt_bias is None else dt + given.dt_bias.to(real)
        self.delta = functional.softplus(self.before) if given.softplus else self.before
        start = given.initial_state
        self.start = self.x.new_zeros(batch, channels, states) if start is None else start.to(real)

    def chunks(self) -> Iterator[slice]:
        return (slice(k, min(k + CHUNK, self.steps)) for k in range(0, self.steps, CHUNK))

    def states(self, now: slice, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return decays and states `[B, k, E, N]` of some steps, from the state before them."""
        delta = self.delta[:, now]
        a = torch.exp(delta[..., None] * self.A)
        hs = (delta * self.x[:, now])[..., None] * self.B[:, now, None, :]
        for k in range(hs.shape[1]):
            h = hs[:, k].addcmul_(a[:, k], h)
        return a, hs
