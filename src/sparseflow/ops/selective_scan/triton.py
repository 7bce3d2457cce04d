"""The scan and its gradient as Triton kernels: one program a sequence and block of channels, states in registers."""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops.selective_scan.reference import Operands

__all__ = ["backward", "forward"]

BLOCK = 32
"""Channels of a program, one a thread of a warp, which holds all states of its channel."""
CHUNK = 6
"""Steps whose states the gradient holds in registers at once."""


@triton.jit
def _softplus(v):
    # log(1 + u) as twice the inverse hyperbolic tangent of u / (2 + u), which keeps small steps precise.
    u = tl.exp(-tl.abs(v))
    s = u / (2.0 + u)
    s2 = s * s
    p = 1.0 / 13 + s2 * (1.0 / 15 + s2 * (1.0 / 17))
    p = 1.0 + s2 * (1.0 / 3 + s2 * (1.0 / 5 + s2 * (1.0 / 7 + s2 * (1.0 / 9 + s2 * (1.0 / 11 + s2 * p)))))
    return tl.maximum(v, 0.0) + 2.0 * s * p


@triton.jit
def _sigmoid(v):
    return 1.0 / (1.0 + tl.exp(-v))


@triton.jit
def _far(step, stride):
    """Return step * stride, which may pass 2^31."""
    return tl.full((), 1, tl.int64) * step * stride


@triton.jit
def _row(base, step, stride, at, mask):
    """Return one row of a step in float32."""
    return tl.load(base + _far(step, stride) + at, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _before(dt, k, stride, e, mask, bias, BIAS: tl.constexpr):
    v = _row(dt, k, stride, e, mask)
    if BIAS:
        v += bias
    return v


@triton.jit
def _advance(h, delta, x, b, rate):
    """Return the states after one step; the rate carries log2(e)."""
    return tl.exp2(delta[None, :] * rate) * h + b[:, None] * (delta * x)[None, :]


@triton.jit
def _forward(x, dt, rate, b, c, direct, gate, bias, start, y, state, steps, channels, states, blocks, xb, xk, tb, tk,
             bb, bk, cb, ck, db, dk, zb, zk, re, DIRECT: tl.constexpr, GATE: tl.constexpr, BIAS: tl.constexpr,
             START: tl.constexpr, STATE: tl.constexpr, SOFTPLUS: tl.constexpr, N: tl.constexpr,
             BLOCK: tl.constexpr):  # fmt: skip
    pid = tl.program_id(0)
    sequence = (pid // blocks).to(tl.int64)
    e = (pid % blocks) * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    ok, good = e < channels, n < states
    both = good[:, None] & ok[None, :]
    rates = tl.load(rate + n[:, None] + e[None, :] * re, mask=both, other=0.0)
    at = sequence * channels * states + e[None, :].to(tl.int64) * states + n[:, None]
    if START:
        h = tl.load(start + at, mask=both, other=0.0).to(tl.float32)
    else:
        h = tl.zeros((N, BLOCK), tl.float32)
    offset = tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        offset = tl.load(bias + e, mask=ok, other=0.0).to(tl.float32)
    x += sequence * xb
    dt += sequence * tb
    b += sequence * bb
    c += sequence * cb
    y += sequence * steps * channels
    if GATE:
        gate += sequence * zb
    if DIRECT == 2:
        direct += sequence * db
    elif DIRECT == 1:
        d = tl.load(direct + e, mask=ok, other=0.0).to(tl.float32)
    for k in range(steps):
        delta = _before(dt, k, tk, e, ok, offset, BIAS)
        if SOFTPLUS:
            delta = _softplus(delta)
        given = _row(x, k, xk, e, ok)
        h = _advance(h, delta, given, _row(b, k, bk, n, good), rates)
        out = tl.sum(h * _row(c, k, ck, n, good)[:, None], axis=0)
        if DIRECT == 2:
            out += _row(direct, k, dk, e, ok) * given
        elif DIRECT == 1:
            out += d * given
        if GATE:
            z = _row(gate, k, zk, e, ok)
            out *= z * _sigmoid(z)
        tl.store(y + _far(k, channels) + e, out.to(y.dtype.element_ty), mask=ok)
    if STATE:
        tl.store(state + at, h, mask=both)


@triton.jit
def _backward(grad_y, grad_state, x, dt, rate, b, c, direct, gate, bias, start, dx, ddt, drate, dB, dC, ddirect, dgate,
              dbias, dstart, starts, steps, channels, states, blocks, partial, gb, gk, xb, xk, tb, tk, bb, bk, cb, ck,
              db, dk, zb, zk, re, DIRECT: tl.constexpr, GATE: tl.constexpr, BIAS: tl.constexpr, START: tl.constexpr,
              LAST: tl.constexpr, SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
              CHUNK: tl.constexpr):  # fmt: skip
    pid = tl.program_id(0)
    part = pid % blocks
    sequence = (pid // blocks).to(tl.int64)
    e = part * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    ok, good = e < channels, n < states
    both = good[:, None] & ok[None, :]
    rates = tl.load(rate + n[:, None] + e[None, :] * re, mask=both, other=0.0)
    at = sequence * channels * states + e[None, :].to(tl.int64) * states + n[:, None]
    if START:
        h = tl.load(start + at, mask=both, other=0.0).to(tl.float32)
    else:
        h = tl.zeros((N, BLOCK), tl.float32)
    offset = tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        offset = tl.load(bias + e, mask=ok, other=0.0).to(tl.float32)
    x += sequence * xb
    dt += sequence * tb
    b += sequence * bb
    c += sequence * cb
    grad_y += sequence * gb
    to = sequence * steps * channels
    # Sums over the channels of a block; those over blocks follow outside, in a fixed order.
    narrow = _far(part, partial) + sequence * steps * states
    if GATE:
        gate += sequence * zb
    if DIRECT == 2:
        direct += sequence * db
    elif DIRECT == 1:
        d = tl.load(direct + e, mask=ok, other=0.0).to(tl.float32)
    chunks = tl.cdiv(steps, CHUNK)
    tile = n[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    starts += _far(pid, chunks * N * BLOCK)
    tl.store(starts + tile, h)
    for k in range((chunks - 1) * CHUNK):
        delta = _before(dt, k, tk, e, ok, offset, BIAS)
        if SOFTPLUS:
            delta = _softplus(delta)
        h = _advance(h, delta, _row(x, k, xk, e, ok), _row(b, k, bk, n, good), rates)
        if k % CHUNK == CHUNK - 1:
            tl.store(starts + (k // CHUNK + 1) * (N * BLOCK) + tile, h)
    # Every thread reads back what others of its program may have written.
    tl.debug_barrier()
    if LAST:
        carry = tl.load(grad_state + at, mask=both, other=0.0).to(tl.float32)
    else:
        carry = tl.zeros((N, BLOCK), tl.float32)
    sum_rate = tl.zeros((N, BLOCK), tl.float32)
    sum_direct = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        h = tl.load(starts + chunk * (N * BLOCK) + tile)
        hs = (h,)
        for i in tl.static_range(CHUNK):
            k = chunk * CHUNK + i
            live = ok & (k < steps)
            delta = _before(dt, k, tk, e, live, offset, BIAS)
            if SOFTPLUS:
                delta = _softplus(delta)
            # Behind the last step nothing decays.
            delta = tl.where(live, delta, 0.0)
            h = _advance(h, delta, _row(x, k, xk, e, live), _row(b, k, bk, n, good & (k < steps)), rates)
            hs = hs + (h,)  # type: ignore[assignment]  # noqa: RUF005 - Triton does not unpack
        for j in tl.static_range(CHUNK):
            k = chunk * CHUNK + (CHUNK - 1 - j)
            inside = k < steps
            live = ok & inside
            given = _row(x, k, xk, e, live)
            weight = _row(b, k, bk, n, good & inside)[:, None]
            read = _row(c, k, ck, n, good & inside)[:, None]
            before = _before(dt, k, tk, e, live, offset, BIAS)
            delta = before
            if SOFTPLUS:
                delta = _softplus(delta)
            delta = tl.where(live, delta, 0.0)
            gy = _row(grad_y, k, gk, e, live)
            after = hs[CHUNK - j]
            if DIRECT == 2:
                d = _row(direct, k, dk, e, live)
            row = to + _far(k, channels) + e
            if GATE:
                z = _row(gate, k, zk, e, live)
                s = _sigmoid(z)
                out = tl.sum(after * read, axis=0)
                if DIRECT:
                    out += d * given
                slope = s * (1.0 + z * (1.0 - s))
                tl.store(dgate + row, (gy * out * slope).to(dgate.dtype.element_ty), mask=live)
                gy *= z * s
            gh = gy[None, :] * read + carry
            spot = narrow + _far(k, states) + n
            tl.store(dC + spot, tl.sum(gy[None, :] * after, axis=1), mask=good & inside)
            tl.store(dB + spot, tl.sum(gh * (delta * given)[None, :], axis=1), mask=good & inside)
            carry = gh * tl.exp2(delta[None, :] * rates)
            decayed = carry * hs[CHUNK - 1 - j]
            sum_rate += decayed * delta[None, :]
            through = tl.sum(gh * weight, axis=0)
            gx = through * delta
            if DIRECT:
                gx += gy * d
            if DIRECT == 2:
                tl.store(ddirect + row, (gy * given).to(ddirect.dtype.element_ty), mask=live)
            elif DIRECT == 1:
                sum_direct += gy * given
            tl.store(dx + row, gx.to(dx.dtype.element_ty), mask=live)
            # The rates carry log2(e), the derivative of 2^t brings log(2).
            gdt = tl.sum(decayed * rates, axis=0) * 0.6931471805599453 + through * given
            if SOFTPLUS:
                gdt *= _sigmoid(before)
            gdt = tl.where(live, gdt, 0.0)
            tl.store(ddt + row, gdt.to(ddt.dtype.element_ty), mask=live)
            sum_bias += gdt
    if SHARED:
        tl.store(drate + _far(pid, states) + n, tl.sum(sum_rate, axis=1), mask=good)
    else:
        spots = sequence * states * channels + n[:, None].to(tl.int64) * channels + e[None, :]
        tl.store(drate + spots, sum_rate, mask=both)
    if BIAS:
        tl.store(dbias + sequence * channels + e, sum_bias, mask=ok)
    if DIRECT == 1:
        tl.store(ddirect + sequence * channels + e, sum_direct, mask=ok)
    if START:
        tl.store(dstart + at, carry, mask=both)


def forward(given: Operands, want_state: bool) -> tuple[Tensor, Tensor | None]:
    """Return y in the type of `x` and the last state in float32, if wanted; computes in float32. No size is 0.

    Args:
        given: what the scan reads, on one CUDA device.
        want_state: whether to return the state.
    """
    batch, steps, channels, states = given.shape
    tensors, strides, flags = _arguments(given)
    y = given.x.new_empty(given.x.shape)
    state = given.x.new_empty((batch, channels, states), dtype=torch.float32) if want_state else None
    blocks = triton.cdiv(channels, BLOCK)
    with torch.cuda.device_of(y):
        _forward[(batch * blocks,)](
            *tensors, y, state, steps, channels, states, blocks, *strides, **flags, STATE=want_state, num_warps=1
        )
    return y, state


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
    tensors, strides, flags = _arguments(given)
    blocks, chunks = triton.cdiv(channels, BLOCK), triton.cdiv(steps, CHUNK)
    shared, whole = given.A_log.shape[0] == 1, given.D is not None and given.D.ndim == 3

    def real(*shape: int) -> Tensor:
        return given.x.new_empty(shape, dtype=torch.float32)

    grad_y = _dense(grad_y)
    dx, ddt = given.x.new_empty(given.x.shape), given.dt.new_empty(given.x.shape)
    dz = None if given.z is None else given.z.new_empty(given.x.shape)
    dD = None if given.D is None else given.D.new_empty(given.D.shape) if whole else real(batch, channels)
    dB, dC = real(blocks, batch, steps, states), real(blocks, batch, steps, states)
    drate = real(batch * blocks, states) if shared else real(batch, states, channels)
    dbias = None if given.dt_bias is None else real(batch, channels)
    dstart = None if given.initial_state is None else real(batch, channels, states)
    starts = real(batch * blocks, chunks, flags["N"], BLOCK)
    last = None if grad_state is None else grad_state.contiguous()
    with torch.cuda.device_of(grad_y):
        _backward[(batch * blocks,)](
            grad_y, last, *tensors, dx, ddt, drate, dB, dC, dD, dz, dbias, dstart, starts, steps, channels, states,
            blocks, batch * steps * states, *grad_y.stride()[:2], *strides, **flags, LAST=last is not None,
            SHARED=shared, CHUNK=CHUNK, num_warps=1,
        )  # fmt: skip
    total = drate.sum(0)
    # A = -exp(A_log) is its own derivative.
    dA = -torch.exp(given.A_log.float()) * (total[None] if shared else total.t())
    dD = dD if dD is None or whole else dD.sum(0)
    grads = (dx, ddt, dA, dB.sum(0), dC.sum(0), dD, dz, None if dbias is None else dbias.sum(0), dstart)
    return tuple(None if t is None or g is None else g.to(t.dtype) for t, g in zip(given.tensors(), grads, strict=True))


def _dense(t: Tensor) -> Tensor:
    return t if t.stride(-1) == 1 else t.contiguous()


def _arguments(given: Operands) -> tuple[list[Tensor | None], list[int], dict[str, Any]]:
    """Return the tensors, their strides and the switches of both kernels, in the order of their arguments."""
    direct = 0 if given.D is None else 1 if given.D.ndim == 1 else 2
    rate = (torch.exp(given.A_log.float()) * -math.log2(math.e)).contiguous()
    rows = [None if t is None else _dense(t) for t in (given.x, given.dt, given.B, given.C, given.D, given.z)]
    strides = [s for t in rows for s in ((0, 0) if t is None or t.ndim == 1 else t.stride()[:2])]
    x, dt, b, c, d, z = rows
    bias = None if given.dt_bias is None else given.dt_bias.contiguous()
    start = None if given.initial_state is None else given.initial_state.contiguous()
    flags = {
        "DIRECT": direct,
        "GATE": z is not None,
        "BIAS": bias is not None,
        "START": start is not None,
        "SOFTPLUS": given.softplus,
        "N": triton.next_power_of_2(given.shape[3]),
        "BLOCK": BLOCK,
    }
    return [x, dt, rate, b, c, d, z, bias, start], [*strides, 0 if rate.shape[0] == 1 else rate.shape[1]], flags
