"""Two Triton kernels: which blocks are active, and the convolution that reads no others."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparseflow.ops.conv2d_spike.reference import Geometry

__all__ = ["active_blocks", "conv2d_block"]

GROUP = 32


@triton.jit
def _prescan(x, flags, c, h, w, gh, gw, sm, sc, sh, sw, B: tl.constexpr, GROUP: tl.constexpr):
    pid = tl.program_id(0)
    groups = tl.cdiv(c, GROUP)
    ch = pid % groups * GROUP + tl.arange(0, GROUP)
    tile = pid // groups
    p = tl.arange(0, B * B)
    y = tile // gw % gh * B + p // B
    z = tile % gw * B + p % B
    first = (tile // gw // gh).to(tl.int64) * sm
    ok = ((y < h) & (z < w))[:, None] & (ch < c)[None, :]
    at = (y * sh + z * sw)[:, None] + ch[None, :] * sc
    found = tl.max((tl.load(x + first + at, mask=ok, other=0.0) != 0).to(tl.int32), axis=0)
    tl.store(flags + tile.to(tl.int64) * c + ch, found.to(tl.int8), mask=ch < c)


@triton.jit
def _conv(x, weight, bias, flags, y, c, h, w, cout, ho, wo, gh, gw, th, tw, sm, sc, sh, sw, ym, yc, yh, yw,
          SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
          KH: tl.constexpr, KW: tl.constexpr, BIAS: tl.constexpr, B: tl.constexpr, NEAR: tl.constexpr,
          GROUP: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    """Compute one B by B block of outputs for BN channels, from the input blocks that its window touches."""
    pid = tl.program_id(0)
    tiles = tl.cdiv(cout, BN)
    n = pid % tiles * BN + tl.arange(0, BN)
    tile = pid // tiles
    m = (tile // tw // th).to(tl.int64)
    top = tile // tw % th * B
    left = tile % tw * B
    p = tl.arange(0, B * B)
    oy = top + p // B
    ox = left + p % B
    # Blocks from the first row or column of the window on; those beyond its last one are masked.
    near = tl.arange(0, NEAR)
    low_y = tl.maximum(top * SH - PH, 0) // B
    low_x = tl.maximum(left * SW - PW, 0) // B
    by = low_y + near
    bx = low_x + near
    in_y = (by < gh) & (by * B <= (top + B - 1) * SH - PH + DH * (KH - 1))
    in_x = (bx < gw) & (bx * B <= (left + B - 1) * SW - PW + DW * (KW - 1))
    touched = (m * gh + by)[:, None] * gw + bx[None, :]
    in_block = in_y[:, None] & in_x[None, :]
    acc = tl.zeros((B * B, BN), tl.float32)
    x += m * sm
    for g in range(0, c, GROUP):
        ch = g + tl.arange(0, GROUP)
        ok_f = in_block[:, :, None] & (ch < c)[None, None, :]
        seen = tl.load(flags + touched[:, :, None] * c + ch[None, None, :], mask=ok_f, other=0).to(tl.int32)
        if tl.max(tl.max(tl.max(seen, axis=2), axis=1), axis=0) != 0:
            for tap in range(KH * KW):
                i = tap // KW
                j = tap % KW
                iy = oy * SH - PH + i * DH
                ix = ox * SW - PW + j * DW
                ok_x = ((iy >= 0) & (iy < h) & (ix >= 0) & (ix < w))[:, None] & (ch < c)[None, :]
                a = tl.load(x + (iy * sh + ix * sw)[:, None] + ch[None, :] * sc, mask=ok_x, other=0.0)
                ok_w = (ch < c)[:, None] & (n < cout)[None, :]
                b = tl.load(weight + (tap * c + ch)[:, None] * cout + n[None, :], mask=ok_w, other=0.0)
                acc = tl.dot(a, b, acc, input_precision="tf32x3")
    if BIAS:
        acc += tl.load(bias + n, mask=n < cout, other=0.0).to(tl.float32)[None, :]
    ok = ((oy < ho) & (ox < wo))[:, None] & (n < cout)[None, :]
    at = (oy * yh + ox * yw)[:, None] + n[None, :] * yc
    tl.store(y + m * ym + at, acc.to(y.dtype.element_ty), mask=ok)


def active_blocks(x: Tensor, block: int) -> Tensor:
    """Return int8 `[M, ceil(H/block), ceil(W/block), C]`; arguments as in the reference."""
    m, c, h, w = x.shape
    gh, gw = triton.cdiv(h, block), triton.cdiv(w, block)
    flags = torch.empty((m, gh, gw, c), dtype=torch.int8, device=x.device)
    if flags.numel():
        with torch.cuda.device_of(x):
            _prescan[(m * gh * gw * triton.cdiv(c, GROUP),)](
                x, flags, c, h, w, gh, gw, *x.stride(), B=block, GROUP=GROUP, num_warps=4
            )
    return flags


def conv2d_block(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, block: int, y: Tensor) -> None:
    """Fill `y`; arguments as in `sparseflow.ops.conv2d_block.conv2d_block`, one group.

    Both stages are launched without waiting for the device. Outputs are owned
    by one program each and sums run in a fixed order: no atomics, the same bits
    in every run.
    """
    if y.numel() == 0:
        return
    m, c, h, w = x.shape
    cout, _, kh, kw = weight.shape
    ho, wo = y.shape[2:]
    (sh, sw), (ph, pw), (dh, dw), _ = geometry
    flags = active_blocks(x, block)
    reach = max((block - 1) * sh + dh * (kh - 1), (block - 1) * sw + dw * (kw - 1)) // block + 2
    channels = 64 if cout > 32 and block <= 8 else 32
    th, tw = triton.cdiv(ho, block), triton.cdiv(wo, block)
    rows = weight.to(x.dtype).permute(2, 3, 1, 0).contiguous()
    with torch.cuda.device_of(x):
        _conv[(m * th * tw * triton.cdiv(cout, channels),)](
            x, rows, x if bias is None else bias, flags, y, c, h, w, cout, ho, wo, *flags.shape[1:3], th, tw,
            *x.stride(), *y.stride(), SH=sh, SW=sw, PH=ph, PW=pw, DH=dh, DW=dw, KH=kh, KW=kw, BIAS=bias is not None,
            B=block, NEAR=triton.next_power_of_2(reach), GROUP=GROUP, BN=channels, num_warps=4 if block <= 8 else 8,
        )  # fmt: skip
