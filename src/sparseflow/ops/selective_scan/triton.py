"""The scan and its gradient as Triton kernels: one program a sequence, segment of steps and block of channels."""

from typing import Any

import torch
import triton
from torch import Tensor

from sparseflow.ops.selective_scan import _kernels
from sparseflow.ops.selective_scan.reference import Operands

__all__ = ["backward", "forward"]

BLOCK = 32
"""Channels of a program, one a thread of a warp, which holds all states of its channel."""
CHUNK = 4
"""Steps whose states the gradient holds in registers at once."""
AHEAD = 2
"""Steps whose operands are read together."""
FAR = 8
"""Segments whose ends are read together."""
PROGRAMS = 4096
"""Long sequences are cut into segments until there are so many programs."""
FEWEST = 4
"""Segments that pay for finding their ends first; fewer are not cut at all."""
SHORTEST = {"forward": 16, "backward": 64}
"""Steps of the shortest segment; backwards a program has more to do before its first step."""


def forward(given: Operands, want_state: bool) -> tuple[Tensor, Tensor | None]:
    """Return y in the type of `x` and the last state in float32, if wanted; computes in float32. No size is 0.

    Few and long sequences are cut into segments: their ends from a state of 0 first, then the state before each, then
    all segments at once.

    Args:
        given: what the scan reads, on one CUDA device.
        want_state: whether to return the state.
    """
    batch, _, channels, states = given.shape
    plan = _Plan(given, "forward")
    y = given.x.new_empty(given.x.shape)
    state = plan.real(batch, states, channels) if want_state else None
    with torch.cuda.device_of(y):
        start, how = plan.start, plan.START
        if plan.segments > 1:
            (start, _), how = plan.carry(None, None), 2
        _launch(
            _kernels.forward_steps, (plan.programs, 1), (*plan.reads, start, y, state),
            (*plan.sizes, *plan.strides, 1),
            (plan.DIRECT, plan.GATE, plan.BIAS, how, want_state, plan.SOFTPLUS, plan.SHARED, plan.N, BLOCK, AHEAD),
        )  # fmt: skip
    return y, None if state is None else state.transpose(1, 2).contiguous()


def backward(given: Operands, grad_y: Tensor, grad_state: Tensor | None) -> tuple[Tensor | None, ...]:
    """Return the gradients of the nine tensors in the order of `Operands`, None where there is none. No size is 0.

    The states at the start of every chunk of steps are computed first, and those within a chunk from there. All
    sums run in a fixed order, so that equal operands give equal bits.

    Args:
        given: what the scan read.
        grad_y: gradient of y.
        grad_state: gradient of the last state, or None for 0.
    """
    batch, steps, channels, states = given.shape
    plan = _Plan(given, "backward")
    rows, programs = batch * plan.segments, plan.programs
    whole = given.D is not None and given.D.ndim == 3
    grad_y = _dense(grad_y)
    dx, ddt = given.x.new_empty(given.x.shape), given.dt.new_empty(given.x.shape)
    dz = None if given.z is None else given.z.new_empty(given.x.shape)
    dD = None if given.D is None else given.D.new_empty(given.D.shape) if whole else plan.real(rows, channels)
    dB, dC = (plan.real(plan.blocks, batch, steps, states) for _ in range(2))
    dlog = plan.real(programs, states) if plan.SHARED else plan.real(rows, states, channels)
    dbias = None if given.dt_bias is None else plan.real(rows, channels)
    dstart = None if given.initial_state is None else plan.real(batch, states, channels)
    starts = plan.real(programs, triton.cdiv(plan.span, CHUNK), plan.N, BLOCK)
    last = None if grad_state is None else grad_state.transpose(1, 2).contiguous()
    with torch.cuda.device_of(grad_y):
        start, first, back = plan.start, plan.START, int(last is not None)
        if plan.segments > 1:
            start, last = plan.carry(grad_y, last)
            first = back = 2
        _launch(
            _kernels.backward_steps, (programs, 1),
            (grad_y, last, *plan.reads, start, dx, ddt, dlog, dB, dC, dD, dz, dbias, dstart, starts),
            (*plan.sizes, batch * steps * states, *grad_y.stride()[:2], *plan.strides, 1),
            (plan.DIRECT, plan.GATE, plan.BIAS, first, dstart is not None, back, plan.SOFTPLUS, plan.SHARED, plan.N,
             BLOCK, CHUNK, plan.N == 16),
        )  # fmt: skip
    total = dlog.sum(0)
    dA = total[None] if plan.SHARED else total.t().contiguous()
    dD = dD if dD is None or whole else dD.sum(0)
    dstart = None if dstart is None else dstart.transpose(1, 2).contiguous()
    bias = None if dbias is None else dbias.sum(0)
    grads = (dx, ddt, dA, dB.sum(0), dC.sum(0), dD, dz, bias, dstart)
    # A conversion that changes nothing still costs the host a microsecond, which shows in a short scan.
    return tuple(
        g if t is None or g is None or g.dtype == t.dtype else g.to(t.dtype)
        for t, g in zip(given.tensors(), grads, strict=True)
    )


_COMPILED: dict[Any, Any] = {}
_MOST = 256


def _launch(
    kernel: Any, grid: tuple[int, int], tensors: tuple[Tensor | None, ...], numbers: tuple[int, ...],
    switches: tuple[Any, ...], warps: int = 1,
) -> None:  # fmt: skip
    """Run a kernel, past what Triton asks itself at every launch where it ran with operands of these kinds before.

    The arguments of a kernel are its tensors, the numbers and the switches, in this order.
    """
    first = next(t for t in tensors if t is not None)
    key = (
        kernel, first.device, numbers, switches,
        *[None if t is None else (t.dtype, t.data_ptr() & 15 == 0) for t in tensors],
    )  # fmt: skip
    whole = (*grid, 1)
    compiled = _COMPILED.get(key)
    if compiled is not None:
        compiled[whole](*tensors, *numbers, *switches)
        return
    if len(_COMPILED) >= _MOST:
        _COMPILED.clear()
    compiled = kernel[whole](*tensors, *numbers, *switches, num_warps=warps)
    # The interpreter returns nothing.
    if compiled is not None:
        _COMPILED[key] = compiled


def _dense(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 else t.contiguous()


def _split(programs: int, steps: int, shortest: int) -> tuple[int, int]:
    """Return the number of segments and the steps of each but the last."""
    wanted = PROGRAMS // programs
    if wanted < FEWEST or steps < 2 * shortest:
        return 1, steps
    span = max(shortest, triton.cdiv(steps, wanted))
    span = triton.cdiv(span, CHUNK) * CHUNK
    return triton.cdiv(steps, span), span


class _Plan:
    """The operands of one scan as the kernels read them, their strides, sizes and switches."""

    def __init__(self, given: Operands, way: str) -> None:
        batch, steps, channels, states = given.shape
        self.given = given
        self.blocks = triton.cdiv(channels, BLOCK)
        self.segments, self.span = _split(batch * self.blocks, steps, SHORTEST[way])
        self.programs = batch * self.blocks * self.segments
        self.SHARED, self.SOFTPLUS = given.A_log.shape[0] == 1, given.softplus
        self.N = triton.next_power_of_2(states)
        log = given.A_log.contiguous() if self.SHARED else given.A_log.t().contiguous()
        wide = [None if t is None else _dense(t) for t in (given.x, given.dt, given.B, given.C, given.D, given.z)]
        self.strides = [s for t in wide for s in ((0, 0) if t is None or t.ndim == 1 else t.stride()[:2])]
        x, dt, b, c, d, z = wide
        bias = None if given.dt_bias is None else given.dt_bias.contiguous()
        self.reads = (x, dt, log, b, c, d, z, bias)
        self.start = None if given.initial_state is None else given.initial_state.transpose(1, 2).contiguous()
        self.START = int(self.start is not None)
        self.DIRECT = 0 if d is None else 1 if d.ndim == 1 else 2
        self.GATE, self.BIAS = z is not None, bias is not None
        self.sizes = (steps, channels, states, self.blocks, self.segments, self.span)

    def real(self, *shape: int) -> Tensor:
        return self.given.x.new_empty(shape, dtype=torch.float32)

    def carry(self, grad_y: Tensor | None, last: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the states before each segment, and the gradients of those behind it if there is a gradient of y."""
        x, dt, log, b, c, _, z, bias = self.reads
        back = grad_y is not None
        ends = self.real(self.programs, self.N, BLOCK)
        backs = self.real(self.programs, self.N, BLOCK) if back else None
        sums = self.real(self.programs, BLOCK)
        strides = (0, 0) if grad_y is None else grad_y.stride()[:2]
        _, channels, states, blocks, segments, _ = self.sizes
        _launch(
            _kernels.local_ends, (self.programs, 1), (grad_y, x, dt, log, b, c, z, bias, ends, backs, sums),
            (*self.sizes, *strides, *self.strides[:8], *self.strides[10:], 1),
            (self.GATE, self.BIAS, self.SOFTPLUS, self.SHARED, back, self.N, BLOCK, AHEAD),
        )  # fmt: skip
        _launch(
            _kernels.carry_over, (self.programs // segments, 1 + back),
            (log, self.start, last, ends, ends if backs is None else backs, sums),
            (channels, states, blocks, segments, 1),
            (self.START, int(last is not None), self.SHARED, self.N, BLOCK, FAR), 4,
        )  # fmt: skip
        return ends, backs
