"""Triton kernels of matrix products with packed spikes: bits spread in registers, products on the matrix units."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["attend", "bits_matmul", "gram", "matmul_bits"]

ROWS = 64


@triton.jit
def _spread(there, DTYPE: tl.constexpr):
    """Return ones and zeros; selected, since converting from whole numbers takes eight times as long."""
    return tl.where(there != 0, 1.0, 0.0).to(DTYPE)


@triton.jit
def _bits_matmul(words, other, bias, y, m, n, k, ws, ob, ok_, on, yb, W: tl.constexpr, BIAS: tl.constexpr,
                 BM: tl.constexpr, BN: tl.constexpr):  # fmt: skip
    tiles = tl.cdiv(m, BM)
    r = tl.program_id(0) % tiles * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    b = tl.arange(0, 32)
    words += batch * ws
    other += batch * ob
    acc = tl.zeros((BM, BN), tl.float32)
    for w in range(W):
        bits = tl.load(words + r * W + w, mask=r < m, other=0)[:, None] & (1 << b)[None, :]
        row = w * 32 + b
        ok = (row < k)[:, None] & (c < n)[None, :]
        tile = tl.load(other + row[:, None] * ok_ + c[None, :] * on, mask=ok, other=0.0)
        acc = tl.dot(_spread(bits, tile.dtype), tile, acc, input_precision="tf32x3")
    if BIAS:
        acc += tl.load(bias + c, mask=c < n, other=0.0).to(tl.float32)[None, :]
    ok_y = (r < m)[:, None] & (c < n)[None, :]
    tl.store(y + batch * yb + r[:, None] * n + c[None, :], acc.to(y.dtype.element_ty), mask=ok_y)


@triton.jit
def _matmul_bits(x, words, y, m, n, k, xb, xs, ws, yb, W: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr):
    tiles = tl.cdiv(m, BM)
    r = tl.program_id(0) % tiles * BM + tl.arange(0, BM)
    w = tl.program_id(1)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    b = tl.arange(0, 32)
    x += batch * xb
    words += batch * ws + w
    acc = tl.zeros((BM, 32), tl.float32)
    for start in range(0, k, BK):
        row = start + tl.arange(0, BK)
        ok = (r < m)[:, None] & (row < k)[None, :]
        tile = tl.load(x + r[:, None] * xs + row[None, :], mask=ok, other=0.0)
        bits = tl.load(words + row * W, mask=row < k, other=0)[:, None] & (1 << b)[None, :]
        acc = tl.dot(tile, _spread(bits, tile.dtype), acc, input_precision="tf32x3")
    c = w * 32 + b
    ok_y = (r < m)[:, None] & (c < n)[None, :]
    tl.store(y + batch * yb + r[:, None] * n + c[None, :], acc.to(y.dtype.element_ty), mask=ok_y)


@triton.jit
def _common(q, k, r, c, m, n, W: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """Return how many spikes rows r of q and c of k have in common."""
    b = tl.arange(0, 32)
    acc = tl.zeros((BM, BN), tl.float32)
    for w in range(W):
        left = tl.load(q + r * W + w, mask=r < m, other=0)[:, None] & (1 << b)[None, :]
        right = tl.load(k + c * W + w, mask=c < n, other=0)[None, :] & (1 << b)[:, None]
        acc = tl.dot(_spread(left, tl.float16), _spread(right, tl.float16), acc)
    return acc


@triton.jit
def _gram(q, k, y, m, n, scale, qs, ks, yb, W: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    tiles = tl.cdiv(m, BM)
    r = tl.program_id(0) % tiles * BM + tl.arange(0, BM)
    c = tl.program_id(1) * BN + tl.arange(0, BN)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    acc = _common(q + batch * qs, k + batch * ks, r, c, m, n, W, BM, BN) * scale
    ok = (r < m)[:, None] & (c < n)[None, :]
    tl.store(y + batch * yb + r[:, None] * n + c[None, :], acc.to(y.dtype.element_ty), mask=ok)


@triton.jit
def _attend(q, k, v, y, m, n, d, scale, qs, ks, vs, yb, W: tl.constexpr, WV: tl.constexpr, BM: tl.constexpr,
            BN: tl.constexpr):  # fmt: skip
    """Keep the counts of a tile of rows in registers: the `M` by `N` matrix is never written."""
    tiles = tl.cdiv(m, BM)
    r = tl.program_id(0) % tiles * BM + tl.arange(0, BM)
    w = tl.program_id(1)
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    b = tl.arange(0, 32)
    q += batch * qs
    k += batch * ks
    v += batch * vs + w
    acc = tl.zeros((BM, 32), tl.float32)
    for start in range(0, n, BN):
        c = start + tl.arange(0, BN)
        counts = _common(q, k, r, c, m, n, W, BM, BN)
        bits = tl.load(v + c * WV, mask=c < n, other=0)[:, None] & (1 << b)[None, :]
        acc = tl.dot(counts.to(tl.float16), _spread(bits, tl.float16), acc)
    col = w * 32 + b
    ok = (r < m)[:, None] & (col < d)[None, :]
    tl.store(y + batch * yb + r[:, None] * d + col[None, :], (acc * scale).to(y.dtype.element_ty), mask=ok)


def bits_matmul(words: Tensor, other: Tensor, bias: Tensor | None, channels: int, y: Tensor) -> None:
    """Fill `y`; arguments as in `sparseflow.ops.spike_matmul.bits_matmul`."""
    batch, m, w = words.shape
    n = other.shape[-1]
    if y.numel() == 0:
        return
    words = words.contiguous()
    shared = other.ndim == 2
    strides = (0 if shared else other.stride(0), other.stride(-2), other.stride(-1))
    grid = (batch * triton.cdiv(m, ROWS), triton.cdiv(n, ROWS))
    with torch.cuda.device_of(words):
        _bits_matmul[grid](
            words, other, y if bias is None else bias, y, m, n, channels, m * w, *strides, m * n, W=w,
            BIAS=bias is not None, BM=ROWS, BN=ROWS,
        )  # fmt: skip


def matmul_bits(x: Tensor, words: Tensor, channels: int, y: Tensor) -> None:
    """Fill `y`; arguments as in `sparseflow.ops.spike_matmul.matmul_bits`."""
    if y.numel() == 0:
        return
    x, words = x.contiguous(), words.contiguous()
    batch, m, k = x.shape
    w = words.shape[2]
    with torch.cuda.device_of(words):
        _matmul_bits[(batch * triton.cdiv(m, ROWS), w)](
            x, words, y, m, channels, k, m * k, k, k * w, m * channels, W=w, BM=ROWS, BK=32
        )


def gram(q: Tensor, k: Tensor, scale: float, y: Tensor) -> None:
    """Fill `y`; arguments as in `sparseflow.ops.spike_matmul.gram`."""
    if y.numel() == 0:
        return
    q, k = q.contiguous(), k.contiguous()
    batch, m, w = q.shape
    n = k.shape[1]
    with torch.cuda.device_of(q):
        _gram[(batch * triton.cdiv(m, ROWS), triton.cdiv(n, ROWS))](
            q, k, y, m, n, float(scale), m * w, n * w, m * n, W=w, BM=ROWS, BN=ROWS
        )


def attend(q: Tensor, k: Tensor, v: Tensor, out_channels: int, scale: float, y: Tensor) -> None:
    """Fill `y`; arguments as in `sparseflow.ops.spike_matmul.attend`."""
    if y.numel() == 0:
        return
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    batch, m, w = q.shape
    n, wv = v.shape[1:]
    with torch.cuda.device_of(q):
        _attend[(batch * triton.cdiv(m, ROWS), wv)](
            q, k, v, y, m, n, out_channels, float(scale), m * w, n * w, n * wv, m * out_channels, W=w, WV=wv, BM=ROWS,
            BN=32,
        )  # fmt: skip
