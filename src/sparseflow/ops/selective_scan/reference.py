"""The operands of a selective scan, and the truth: one step after the other, in plain torch."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Operands", "selective_scan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operands:
    """What one scan reads; shapes and meaning as in `sparseflow.ops.selective_scan.selective_scan`.

    Nothing is checked here.

    Args:
        x: `[B, K, E]`.
        dt: `[B, K, E]`.
        A_log: `[1, N]` or `[E, N]`.
        B: `[B, K, N]`.
        C: `[B, K, N]`.
        D: `[B, K, E]`, `[E]` or None.
        z: `[B, K, E]` or None.
        dt_bias: `[E]` or None.
        initial_state: `[B, E, N]` or None.
        softplus: whether the step is the softplus of `dt + dt_bias`.
    """

    x: Tensor
    dt: Tensor
    A_log: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None = None
    z: Tensor | None = None
    dt_bias: Tensor | None = None
    initial_state: Tensor | None = None
    softplus: bool = True

    @property
    def dtype(self) -> torch.dtype:
        """Type to compute in: float64 if `x` is that, else float32."""
        return torch.float64 if self.x.dtype == torch.float64 else torch.float32

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """B, K, E and N."""
        return (*self.x.shape, self.A_log.shape[1])

    def tensors(self) -> tuple[Tensor | None, ...]:
        """Return the nine tensors in the order of the fields."""
        return (self.x, self.dt, self.A_log, self.B, self.C, self.D, self.z, self.dt_bias, self.initial_state)


def selective_scan(given: Operands) -> tuple[Tensor, Tensor]:
    """Run the recurrence step by step; autograd follows it.

    Computes in float64 if `x` is that, else in float32.

    Returns:
        y `[B, K, E]` in the type of `x`, and the state `[B, E, N]` after the last step.
    """
    real = given.dtype
    batch, steps, channels, states = given.shape
    # Taken apart at once: autograd gives a step that is taken alone a gradient as large as the whole.
    x, dt, B, C = (t.to(real).unbind(1) for t in (given.x, given.dt, given.B, given.C))
    D = None if given.D is None else [given.D.to(real)] * steps if given.D.ndim == 1 else given.D.to(real).unbind(1)
    z = None if given.z is None else given.z.to(real).unbind(1)
    A = -torch.exp(given.A_log.to(real))
    start = given.initial_state
    h = given.x.new_zeros(batch, channels, states, dtype=real) if start is None else start.to(real)
    rows = []
    for k in range(steps):
        delta = dt[k] if given.dt_bias is None else dt[k] + given.dt_bias.to(real)
        if given.softplus:
            delta = functional.softplus(delta)
        a = torch.exp(delta[:, :, None] * A)
        h = a * h + (delta * x[k])[:, :, None] * B[k][:, None, :]
        y = (h * C[k][:, None, :]).sum(-1)
        if D is not None:
            y = y + D[k] * x[k]
        if z is not None:
            y = y * functional.silu(z[k])
        rows.append(y)
    out = torch.stack(rows, 1) if rows else given.x.to(real).clone()
    return out.to(given.x.dtype), h
