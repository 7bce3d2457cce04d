"""Matrix products of which a factor is packed spikes: the attention and the linear layers of spiking transformers."""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.lif import WORD, on_triton
from sparseflow.ops.spike_matmul import reference
from sparseflow.ops.spike_matmul.space import LARGEST_COUNT, OP

__all__ = ["OP", "attend", "bits_matmul", "gram", "matmul_bits", "spike_linear"]


def bits_matmul(words: Tensor, other: Tensor, bias: Tensor | None = None, *, channels: int) -> Tensor:
    """Multiply packed spikes by floats.

    `y[b, m, n] = bias[n] + sum over k of bit[b, m, k] * other[b, k, n]`, accumulated in float32.

    Args:
        words: int32 `[B, M, ceil(K/32)]`, packed along K.
        other: `[B, K, N]`, or `[K, N]` for all b; float32, float16 or bfloat16, any strides.
        bias: `[N]`, or None.
        channels: K.

    Returns:
        `[B, M, N]` in the type of `other`. No gradient.

    Raises:
        ConfigError: shapes that do not fit.

    Cost: 2*B*M*K*N flops at any density; reads 1/16 of the bytes of float16 spikes.

    >>> bits_matmul(torch.tensor([[[5]]], dtype=torch.int32), torch.eye(3), channels=3)
    tensor([[[1., 0., 1.]]])
    """
    _check("bits_matmul", words, channels)
    if other.ndim not in (2, 3) or other.shape[-2] != channels or other.shape[:-2] not in ((), words.shape[:1]):
        raise ConfigError(f"bits_matmul: other is {tuple(other.shape)}; expected [{words.shape[0]}, {channels}, N]")
    if bias is not None and bias.shape != other.shape[-1:]:
        raise ConfigError(f"bits_matmul: bias is {tuple(bias.shape)}; expected {tuple(other.shape[-1:])}")
    return run(_bits_matmul, words, other, bias, channels)  # type: ignore[no-any-return]


def spike_linear(words: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer to packed tokens.

    Args:
        words: int32 `[B, L, ceil(K/32)]`.
        weight: `[N, K]`.
        bias: `[N]`, or None.

    Returns:
        `[B, L, N]` in the type of `weight`. No gradient.

    Raises:
        ConfigError: shapes that do not fit.

    >>> spike_linear(torch.tensor([[[5]]], dtype=torch.int32), torch.ones(1, 3))
    tensor([[[2.]]])
    """
    if weight.ndim != 2:
        raise ConfigError(f"spike_linear: weight is {tuple(weight.shape)}; expected [N, K]")
    return bits_matmul(words, weight.t(), bias, channels=weight.shape[1])


def matmul_bits(x: Tensor, words: Tensor, *, channels: int) -> Tensor:
    """Multiply floats by packed spikes, as attention by packed values.

    `y[b, m, n] = sum over k of x[b, m, k] * bit[b, k, n]`, accumulated in float32.

    Args:
        x: `[B, M, K]`; float32, float16 or bfloat16.
        words: int32 `[B, K, ceil(N/32)]`, packed along N.
        channels: N.

    Returns:
        `[B, M, N]` in the type of `x`. No gradient.

    Raises:
        ConfigError: shapes that do not fit.

    >>> matmul_bits(torch.ones(1, 1, 1), torch.tensor([[[5]]], dtype=torch.int32), channels=3)
    tensor([[[1., 0., 1.]]])
    """
    _check("matmul_bits", words, channels)
    if x.ndim != 3 or x.shape[0] != words.shape[0] or x.shape[2] != words.shape[1]:
        raise ConfigError(f"matmul_bits: x is {tuple(x.shape)}, words {tuple(words.shape)}; expected [B, M, K], [B, K]")
    return run(_matmul_bits, x, words, channels)  # type: ignore[no-any-return]


def gram(q: Tensor, k: Tensor, *, channels: int, scale: float = 1.0) -> Tensor:
    """Count the spikes that each pair of rows has in common: attention scores of packed queries and keys.

    `y[b, m, n] = scale * sum over d of q[b, m, d] * k[b, n, d]`; the sum is exact.

    Args:
        q: int32 `[B, M, ceil(D/32)]`.
        k: int32 `[B, N, ceil(D/32)]`.
        channels: D.
        scale: factor.

    Returns:
        float32 `[B, M, N]`. No gradient.

    Raises:
        ConfigError: shapes that do not fit.

    >>> gram(*torch.tensor([[[[5]]], [[[4]]]], dtype=torch.int32), channels=3)
    tensor([[[1.]]])
    """
    _check("gram", q, channels)
    _check("gram", k, channels)
    if q.shape[0] != k.shape[0]:
        raise ConfigError(f"gram: q is {tuple(q.shape)}, k {tuple(k.shape)}; expected one batch size")
    return run(_gram, q, k, channels, scale)  # type: ignore[no-any-return]


def attend(q: Tensor, k: Tensor, v: Tensor, *, channels: int, out_channels: int, scale: float = 1.0) -> Tensor:
    """Attend without softmax, as spiking transformers do, from bits to floats.

    `y[b, m] = scale * sum over n of (q[b, m] . k[b, n]) * v[b, n]`; the sums are
    exact up to 2^24, and the matrix of scores is never written.

    Args:
        q: int32 `[B, M, ceil(D/32)]`.
        k: int32 `[B, N, ceil(D/32)]`.
        v: int32 `[B, N, ceil(E/32)]`.
        channels: D, at most 2048 for the Triton kernel.
        out_channels: E.
        scale: factor.

    Returns:
        float32 `[B, M, E]`. No gradient.

    Raises:
        ConfigError: shapes that do not fit.
        UnsupportedError: D is above 2048 on CUDA tensors: such counts are not exact in float16.

    Cost: 2*B*M*N*(D + E) flops.
    Source: Zhou et al., Spikformer, ICLR 2023, eq. (7), without its last neuron.

    >>> bits = torch.tensor([[[5]]], dtype=torch.int32)
    >>> attend(bits, bits, bits, channels=3, out_channels=3)
    tensor([[[2., 0., 2.]]])
    """
    for words, width in ((q, channels), (k, channels), (v, out_channels)):
        _check("attend", words, width)
    if q.shape[0] != k.shape[0] or k.shape[:2] != v.shape[:2]:
        raise ConfigError(f"attend: q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} do not fit")
    if channels > LARGEST_COUNT and on_triton(q):
        raise UnsupportedError(f"attend: takes up to {LARGEST_COUNT} channels on CUDA, not {channels}; use gram")
    return run(_attend, q, k, v, channels, out_channels, scale)  # type: ignore[no-any-return]


def _check(what: str, words: Tensor, channels: int) -> None:
    if words.dtype != torch.int32 or words.ndim != 3 or words.shape[2] != -(-channels // WORD):
        raise ConfigError(
            f"{what}: words are {words.dtype} {tuple(words.shape)}; expected int32 [B, L, {-(-channels // WORD)}] "
            f"for {channels} channels"
        )


@torch.library.custom_op("sparseflow::bits_matmul", mutates_args=())
def _bits_matmul(words: Tensor, other: Tensor, bias: Tensor | None, channels: int) -> Tensor:
    y = other.new_empty((*words.shape[:2], other.shape[-1]))
    if not on_triton(other):
        return y.copy_(reference.bits_matmul(words, other, bias, channels))
    from sparseflow.ops.spike_matmul import triton

    triton.bits_matmul(words, other, bias, channels, y)
    return y


@_bits_matmul.register_fake
def _(words: Tensor, other: Tensor, bias: Tensor | None, channels: int) -> Tensor:
    return other.new_empty((*words.shape[:2], other.shape[-1]))


@torch.library.custom_op("sparseflow::matmul_bits", mutates_args=())
def _matmul_bits(x: Tensor, words: Tensor, channels: int) -> Tensor:
    y = x.new_empty((*x.shape[:2], channels))
    if not on_triton(x):
        return y.copy_(reference.matmul_bits(x, words, channels))
    from sparseflow.ops.spike_matmul import triton

    triton.matmul_bits(x, words, channels, y)
    return y


@_matmul_bits.register_fake
def _(x: Tensor, words: Tensor, channels: int) -> Tensor:
    return x.new_empty((*x.shape[:2], channels))


@torch.library.custom_op("sparseflow::spike_gram", mutates_args=())
def _gram(q: Tensor, k: Tensor, channels: int, scale: float) -> Tensor:
    y = q.new_empty((*q.shape[:2], k.shape[1]), dtype=torch.float32)
    if not on_triton(q):
        return y.copy_(reference.gram(q, k, channels, scale))
    from sparseflow.ops.spike_matmul import triton

    triton.gram(q, k, scale, y)
    return y


@_gram.register_fake
def _(q: Tensor, k: Tensor, *_: Any) -> Tensor:
    return q.new_empty((*q.shape[:2], k.shape[1]), dtype=torch.float32)


@torch.library.custom_op("sparseflow::spike_attend", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, channels: int, out_channels: int, scale: float) -> Tensor:
    y = q.new_empty((*q.shape[:2], out_channels), dtype=torch.float32)
    if not on_triton(q):
        return y.copy_(reference.attend(q, k, v, channels, out_channels, scale))
    from sparseflow.ops.spike_matmul import triton

    triton.attend(q, k, v, out_channels, scale, y)
    return y


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, channels: int, out_channels: int, scale: float) -> Tensor:
    return q.new_empty((*q.shape[:2], out_channels), dtype=torch.float32)
