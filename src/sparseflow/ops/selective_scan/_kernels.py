# mypy: disable-error-code="assignment,var-annotated,no-untyped-def,untyped-decorator,no-untyped-call"
"""The Triton kernels of the scan: one warp a sequence, segment of steps and block of channels, one thread a channel.

Tiles [N, BLOCK] of states lie behind each other, one a program; `skew` is 1 and keeps the compiler from reading them
by four channels a thread, which would lead that layout into the loops.
"""

import triton
import triton.language as tl

__all__ = ["backward_steps", "carry_over", "forward_steps", "local_ends"]

PLAIN = [
    "steps", "channels", "blocks", "segments", "span", "partial", "gb", "gk", "xb", "xk", "tb", "tk", "bb", "cb", "db",
    "dk", "zb", "zk", "skew",
]  # fmt: skip
"""Arguments whose values make no other kernel; rows of B and C are read four states at once if theirs allow it."""


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
def _delta(before, live, SOFTPLUS: tl.constexpr):
    delta = before
    if SOFTPLUS:
        delta = _softplus(before)
    # Behind the last step nothing decays.
    return tl.where(live, delta, 0.0)


@triton.jit
def _rates(log, n, e, mask, channels, states, skew, SHARED: tl.constexpr):
    """Return -exp(log) log2(e) [N, BLOCK] of logarithms [N] or [N, E], 0 where the mask is false."""
    if SHARED:
        logs = tl.broadcast_to(tl.load(log + n, mask=n < states, other=0.0)[:, None], mask.shape).to(tl.float32)
    else:
        logs = tl.load(log + n[:, None] * channels + (e + (skew - 1))[None, :], mask=mask, other=0.0).to(tl.float32)
    return tl.where(mask, tl.exp(logs) * -1.4426950408889634, 0.0)


@triton.jit
def _place(blocks, segments, span, steps, BLOCK: tl.constexpr):
    """Return sequence, part of the channels, segment, channels, first step and number of steps of this program."""
    pid = tl.program_id(0)
    part = pid % blocks
    segment = (pid // blocks) % segments
    sequence = (pid // (blocks * segments)).to(tl.int64)
    first = segment * span
    return sequence, part, segment, part * BLOCK + tl.arange(0, BLOCK), first, tl.minimum(span, steps - first)


@triton.jit
def _tile(skew, N: tl.constexpr, BLOCK: tl.constexpr):
    """Return the places of one program's tile of states in a buffer of all."""
    at = tl.arange(0, N)[:, None] * BLOCK + (tl.arange(0, BLOCK)[None, :] + (skew - 1))
    return _far(tl.program_id(0), N * BLOCK) + at


@triton.jit
def _state(sequence, e, n, channels, states, skew):
    """Return the places of states in a tensor [B, N, E]."""
    return sequence * states * channels + n[:, None].to(tl.int64) * channels + (e + (skew - 1))[None, :]


@triton.jit(do_not_specialize=PLAIN)
def local_ends(grad_y, x, dt, log, b, c, gate, bias, ends, backs, sums, steps, channels, states, blocks, segments, span,
               gb, gk, xb, xk, tb, tk, bb, bk, cb, ck, zb, zk, skew, GATE: tl.constexpr, BIAS: tl.constexpr,
               SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, BACK: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
               AHEAD: tl.constexpr):  # fmt: skip
    """Find the state at the end of each segment that starts at 0, and the sum of its steps; with BACK the gradient
    that its outputs send to the state before it, too."""  # noqa: D205, D209
    sequence, _part, _segment, e, first, count = _place(blocks, segments, span, steps, BLOCK)
    n = tl.arange(0, N)
    ok, good = e < channels, n < states
    rates = _rates(log, n, e, good[:, None] & ok[None, :], channels, states, skew, SHARED)
    offset = tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        offset = tl.load(bias + e, mask=ok, other=0.0).to(tl.float32)
    x += sequence * xb + _far(first, xk)
    dt += sequence * tb + _far(first, tk)
    b += sequence * bb + _far(first, bk)
    if BACK:
        c += sequence * cb + _far(first, ck)
        grad_y += sequence * gb + _far(first, gk)
        if GATE:
            gate += sequence * zb + _far(first, zk)
    h = tl.zeros((N, BLOCK), tl.float32)
    back = tl.zeros((N, BLOCK), tl.float32)
    decay = tl.full((N, BLOCK), 1.0, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for k0 in range(0, count, AHEAD):
        befores, givens, ins, outs, gys = (), (), (), (), ()
        for i in tl.static_range(AHEAD):
            k = k0 + i
            live, there = ok & (k < count), good & (k < count)
            befores = befores + (_row(dt, k, tk, e, live),)  # noqa: RUF005 - Triton does not unpack
            givens = givens + (_row(x, k, xk, e, live),)  # noqa: RUF005
            ins = ins + (_row(b, k, bk, n, there),)  # noqa: RUF005
            if BACK:
                outs = outs + (_row(c, k, ck, n, there),)  # noqa: RUF005
                gy = _row(grad_y, k, gk, e, live)
                if GATE:
                    z = _row(gate, k, zk, e, live)
                    gy *= z * _sigmoid(z)
                gys = gys + (gy,)  # noqa: RUF005
        for i in tl.static_range(AHEAD):
            delta = _delta(befores[i] + offset, ok & (k0 + i < count), SOFTPLUS)
            total += delta
            a = tl.exp2(delta[None, :] * rates)
            h = a * h + ins[i][:, None] * (delta * givens[i])[None, :]
            if BACK:
                decay *= a
                back += decay * (outs[i][:, None] * gys[i][None, :])
    tile = _tile(skew, N, BLOCK)
    tl.store(ends + tile, h)
    tl.store(sums + _far(tl.program_id(0), BLOCK) + tl.arange(0, BLOCK), total)
    if BACK:
        tl.store(backs + tile, back)


@triton.jit(do_not_specialize=PLAIN)
def carry_over(log, start, grad_state, ends, backs, sums, channels, states, blocks, segments, skew,
               START: tl.constexpr, LAST: tl.constexpr, SHARED: tl.constexpr, N: tl.constexpr,
               BLOCK: tl.constexpr, AHEAD: tl.constexpr):  # fmt: skip
    """Turn the local ends of segments into the states before them, and what they send back into what reaches them.

    Programs of the second axis 0 go forwards, those of 1 backwards.
    """
    pid = tl.program_id(0)
    sequence, part = (pid // blocks).to(tl.int64), pid % blocks
    e = part * BLOCK + tl.arange(0, BLOCK)
    n = tl.arange(0, N)
    mask = (n < states)[:, None] & (e < channels)[None, :]
    rates = _rates(log, n, e, mask, channels, states, skew, SHARED)
    at = _state(sequence, e, n, channels, states, skew)
    tile = n[:, None] * BLOCK + (tl.arange(0, BLOCK)[None, :] + (skew - 1))
    first = sequence * segments * blocks + part
    h = tl.zeros((N, BLOCK), tl.float32)
    if tl.program_id(1) == 0:
        if START:
            h = tl.load(start + at, mask=mask, other=0.0).to(tl.float32)
        for s0 in range(0, segments, AHEAD):
            locals_, totals = (), ()
            for i in tl.static_range(AHEAD):
                here = first + _far(s0 + i, blocks)
                live = s0 + i < segments
                locals_ = locals_ + (tl.load(ends + here * (N * BLOCK) + tile, mask=live, other=0.0),)  # noqa: RUF005
                totals = totals + (tl.load(sums + here * BLOCK + tl.arange(0, BLOCK), mask=live, other=0.0),)  # noqa: RUF005
            for i in tl.static_range(AHEAD):
                here = first + _far(s0 + i, blocks)
                tl.store(ends + here * (N * BLOCK) + tile, h, mask=s0 + i < segments)
                h = tl.exp2(totals[i][None, :] * rates) * h + locals_[i]
    else:
        if LAST:
            h = tl.load(grad_state + at, mask=mask, other=0.0).to(tl.float32)
        for s0 in range(0, segments, AHEAD):
            locals_, totals = (), ()
            for i in tl.static_range(AHEAD):
                s = segments - 1 - s0 - i
                here = first + _far(s, blocks)
                locals_ = locals_ + (tl.load(backs + here * (N * BLOCK) + tile, mask=s >= 0, other=0.0),)  # noqa: RUF005
                totals = totals + (tl.load(sums + here * BLOCK + tl.arange(0, BLOCK), mask=s >= 0, other=0.0),)  # noqa: RUF005
            for i in tl.static_range(AHEAD):
                s = segments - 1 - s0 - i
                here = first + _far(s, blocks)
                tl.store(backs + here * (N * BLOCK) + tile, h, mask=s >= 0)
                h = tl.exp2(totals[i][None, :] * rates) * h + locals_[i]


@triton.jit(do_not_specialize=PLAIN)
def forward_steps(x, dt, log, b, c, direct, gate, bias, start, y, state, steps, channels, states, blocks, segments,
                  span, xb, xk, tb, tk, bb, bk, cb, ck, db, dk, zb, zk, skew, DIRECT: tl.constexpr,
                  GATE: tl.constexpr, BIAS: tl.constexpr, START: tl.constexpr, STATE: tl.constexpr,
                  SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
                  AHEAD: tl.constexpr):  # fmt: skip
    """Run the steps of a segment; START is 1 for a tensor of states, 2 for tiles."""
    sequence, _part, segment, e, first, count = _place(blocks, segments, span, steps, BLOCK)
    n = tl.arange(0, N)
    ok, good = e < channels, n < states
    both = good[:, None] & ok[None, :]
    rates = _rates(log, n, e, both, channels, states, skew, SHARED)
    at = _state(sequence, e, n, channels, states, skew)
    if START == 2:
        h = tl.load(start + _tile(skew, N, BLOCK))
    elif START == 1:
        h = tl.load(start + at, mask=both, other=0.0).to(tl.float32)
    else:
        h = tl.zeros((N, BLOCK), tl.float32)
    offset = tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        offset = tl.load(bias + e, mask=ok, other=0.0).to(tl.float32)
    x += sequence * xb + _far(first, xk)
    dt += sequence * tb + _far(first, tk)
    b += sequence * bb + _far(first, bk)
    c += sequence * cb + _far(first, ck)
    y += (sequence * steps + first) * channels
    if GATE:
        gate += sequence * zb + _far(first, zk)
    if DIRECT == 2:
        direct += sequence * db + _far(first, dk)
    elif DIRECT == 1:
        d = tl.load(direct + e, mask=ok, other=0.0).to(tl.float32)
    for k0 in range(0, count, AHEAD):
        befores, givens, ins, outs, directs, gates = (), (), (), (), (), ()
        for i in tl.static_range(AHEAD):
            k = k0 + i
            live, there = ok & (k < count), good & (k < count)
            befores = befores + (_row(dt, k, tk, e, live),)  # noqa: RUF005
            givens = givens + (_row(x, k, xk, e, live),)  # noqa: RUF005
            ins = ins + (_row(b, k, bk, n, there),)  # noqa: RUF005
            outs = outs + (_row(c, k, ck, n, there),)  # noqa: RUF005
            if DIRECT == 2:
                directs = directs + (_row(direct, k, dk, e, live),)  # noqa: RUF005
            if GATE:
                gates = gates + (_row(gate, k, zk, e, live),)  # noqa: RUF005
        for i in tl.static_range(AHEAD):
            live = ok & (k0 + i < count)
            delta = _delta(befores[i] + offset, live, SOFTPLUS)
            h = tl.exp2(delta[None, :] * rates) * h + ins[i][:, None] * (delta * givens[i])[None, :]
            out = tl.sum(h * outs[i][:, None], axis=0)
            if DIRECT == 2:
                out += directs[i] * givens[i]
            elif DIRECT == 1:
                out += d * givens[i]
            if GATE:
                out *= gates[i] * _sigmoid(gates[i])
            tl.store(y + _far(k0 + i, channels) + e, out.to(y.dtype.element_ty), mask=live)
    if STATE:
        tl.store(state + at, h, mask=both & (segment == segments - 1))


@triton.jit
def _halve(low, high, lane, HALF: tl.constexpr):
    """Add up pairs of lanes: lanes with the bit HALF keep the rows of `high`, the others those of `low`."""
    upper = ((lane & HALF) != 0)[None, :]
    mine, other = tl.where(upper, high, low), tl.where(upper, low, high)
    return mine + tl.gather(other, tl.broadcast_to((lane ^ HALF)[None, :], other.shape), 1)


@triton.jit
def _fold(rows, lane, HALF: tl.constexpr, ROWS: tl.constexpr):
    low, high = tl.split(tl.permute(tl.reshape(rows, (2, ROWS // 2, 32)), (1, 2, 0)))
    return _halve(low, high, lane, HALF)


@triton.jit(do_not_specialize=PLAIN)
def backward_steps(grad_y, last, x, dt, log, b, c, direct, gate, bias, start, dx, ddt, dlog, grad_b, grad_c, ddirect,
                   dgate, dbias, dstart, starts, steps, channels, states, blocks, segments, span, partial, gb, gk, xb,
                   xk, tb, tk, bb, bk, cb, ck, db, dk, zb, zk, skew, DIRECT: tl.constexpr, GATE: tl.constexpr,
                   BIAS: tl.constexpr, START: tl.constexpr, FIRST: tl.constexpr, LAST: tl.constexpr,
                   SOFTPLUS: tl.constexpr, SHARED: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr,
                   CHUNK: tl.constexpr, FOLD: tl.constexpr):  # fmt: skip
    """Find the gradients of a segment; START and LAST are 1 for a tensor of states, 2 for tiles."""
    sequence, part, segment, e, first, count = _place(blocks, segments, span, steps, BLOCK)
    pid = tl.program_id(0)
    n = tl.arange(0, N)
    ok, good = e < channels, n < states
    both = good[:, None] & ok[None, :]
    rates = _rates(log, n, e, both, channels, states, skew, SHARED)
    at = _state(sequence, e, n, channels, states, skew)
    if START == 2:
        h = tl.load(start + _tile(skew, N, BLOCK))
    elif START == 1:
        h = tl.load(start + at, mask=both, other=0.0).to(tl.float32)
    else:
        h = tl.zeros((N, BLOCK), tl.float32)
    offset = tl.zeros((BLOCK,), tl.float32)
    if BIAS:
        offset = tl.load(bias + e, mask=ok, other=0.0).to(tl.float32)
    x += sequence * xb + _far(first, xk)
    dt += sequence * tb + _far(first, tk)
    b += sequence * bb + _far(first, bk)
    c += sequence * cb + _far(first, ck)
    grad_y += sequence * gb + _far(first, gk)
    to = sequence * steps + first
    # Sums over the channels of a block; those over blocks follow outside, in a fixed order.
    grad_b += _far(part, partial) + to * states
    grad_c += _far(part, partial) + to * states
    to *= channels
    if GATE:
        gate += sequence * zb + _far(first, zk)
    if DIRECT == 2:
        direct += sequence * db + _far(first, dk)
    elif DIRECT == 1:
        d = tl.load(direct + e, mask=ok, other=0.0).to(tl.float32)
    chunks = tl.cdiv(count, CHUNK)
    tile = n[:, None] * BLOCK + (tl.arange(0, BLOCK)[None, :] + (skew - 1))
    starts += _far(pid, tl.cdiv(span, CHUNK) * (N * BLOCK))
    tl.store(starts + tile, h)
    for chunk in range(chunks - 1):
        befores, givens = (), ()
        for i in tl.static_range(CHUNK):
            k = chunk * CHUNK + i
            befores = befores + (_row(dt, k, tk, e, ok),)  # noqa: RUF005
            givens = givens + (_row(x, k, xk, e, ok),)  # noqa: RUF005
        for i in tl.static_range(CHUNK):
            delta = _delta(befores[i] + offset, ok, SOFTPLUS)
            weight = _row(b, chunk * CHUNK + i, bk, n, good)[:, None]
            h = tl.exp2(delta[None, :] * rates) * h + weight * (delta * givens[i])[None, :]
        tl.store(starts + (chunk + 1) * (N * BLOCK) + tile, h)
    # Every thread reads back what others of its program may have written.
    tl.debug_barrier()
    if LAST == 2:
        carry = tl.load(last + _tile(skew, N, BLOCK))
    elif LAST == 1:
        carry = tl.load(last + at, mask=both, other=0.0).to(tl.float32)
    else:
        carry = tl.zeros((N, BLOCK), tl.float32)
    sum_rate = tl.zeros((N, BLOCK), tl.float32)
    sum_direct = tl.zeros((BLOCK,), tl.float32)
    sum_bias = tl.zeros((BLOCK,), tl.float32)
    for back in range(chunks):
        chunk = chunks - 1 - back
        h = tl.load(starts + chunk * (N * BLOCK) + tile)
        hs, deltas, befores, givens = (h,), (), (), ()
        for i in tl.static_range(CHUNK):
            k = chunk * CHUNK + i
            live = ok & (k < count)
            befores = befores + (_row(dt, k, tk, e, live),)  # noqa: RUF005
            givens = givens + (_row(x, k, xk, e, live),)  # noqa: RUF005
        for i in tl.static_range(CHUNK):
            k = chunk * CHUNK + i
            delta = _delta(befores[i] + offset, ok & (k < count), SOFTPLUS)
            weight = _row(b, k, bk, n, good & (k < count))[:, None]
            h = tl.exp2(delta[None, :] * rates) * h + weight * (delta * givens[i])[None, :]
            deltas = deltas + (delta,)  # noqa: RUF005
            hs = hs + (h,)  # noqa: RUF005
        for j in tl.static_range(CHUNK):
            k = chunk * CHUNK + (CHUNK - 1 - j)
            inside = k < count
            live = ok & inside
            given, delta, after = givens[CHUNK - 1 - j], deltas[CHUNK - 1 - j], hs[CHUNK - j]
            read = _row(c, k, ck, n, good & inside)[:, None]
            gy = _row(grad_y, k, gk, e, live)
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
            to_b, to_c = gh * (delta * given)[None, :], gy[None, :] * after
            spot = _far(k, states)
            if FOLD:
                lane = tl.arange(0, BLOCK)
                rows = _halve(to_b, to_c, lane, 16)
                rows = _fold(rows, lane, 8, 16)
                rows = _fold(rows, lane, 4, 8)
                rows = _fold(rows, lane, 2, 4)
                line = tl.reshape(_fold(rows, lane, 1, 2), (BLOCK,))
                of = lane & 15
                to_which = tl.where(lane < 16, grad_b + (spot + of), grad_c + (spot + of))
                tl.store(to_which, line, mask=inside & (of < states))
            else:
                tl.store(grad_b + spot + n, tl.sum(to_b, axis=1), mask=good & inside)
                tl.store(grad_c + spot + n, tl.sum(to_c, axis=1), mask=good & inside)
            carry = gh * tl.exp2(delta[None, :] * rates)
            decayed = carry * hs[CHUNK - 1 - j]
            sum_rate += decayed * delta[None, :]
            through = tl.sum(gh * _row(b, k, bk, n, good & inside)[:, None], axis=0)
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
                gdt *= _sigmoid(befores[CHUNK - 1 - j] + offset)
            gdt = tl.where(live, gdt, 0.0)
            tl.store(ddt + row, gdt.to(ddt.dtype.element_ty), mask=live)
            sum_bias += gdt
    # A = -exp(A_log) is its own derivative.
    sum_rate = sum_rate * rates * 0.6931471805599453
    if SHARED:
        tl.store(dlog + _far(pid, states) + n, tl.sum(sum_rate, axis=1), mask=good)
    else:
        spots = _state(sequence * segments + segment, e, n, channels, states, skew)
        tl.store(dlog + spots, sum_rate, mask=both)
    column = (sequence * segments + segment) * channels + e
    if BIAS:
        tl.store(dbias + column, sum_bias, mask=ok)
    if DIRECT == 1:
        tl.store(ddirect + column, sum_direct, mask=ok)
    if FIRST:
        tl.store(dstart + at, carry, mask=both & (segment == 0))
