"""Registration with torch: the operators, their shapes under compilation, and their gradients."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops._library import channels_last, dense_layout, empty
from sparseflow.ops.conv2d_spike import amx, cpp, reference
from sparseflow.ops.conv2d_spike._rows import kernel_of, pack_weight
from sparseflow.ops.conv2d_spike.reference import Geometry, Pair
from sparseflow.ops.conv2d_spike.space import choose
from sparseflow.ops.lif import WORD, params_of
from sparseflow.ops.lif import cpp as neuron_cpp
from sparseflow.ops.lif import reference as neuron

__all__ = ["conv_lif", "conv_words", "spike_conv2d"]


def _empty(like: Tensor, m: int, channels: int, size: Pair, last: bool) -> Tensor:
    if not last:
        return empty(like, (m, channels, *size))
    return empty(like, (m, *size, channels)).permute(0, 3, 1, 2)


def _floats(rows: Tensor) -> Tensor:
    return rows if rows.dtype != torch.int8 else rows.new_empty(0, dtype=torch.float32)


@torch.library.custom_op("sparseflow::spike_conv2d", mutates_args=())
def spike_conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor | None, geometry: list[int], kernel: str
) -> Tensor:
    """Run `sparseflow.ops.conv2d_spike.spike_conv2d` on checked operands."""
    x, moves = dense_layout(x), Geometry.of(geometry)
    out = _sparse(x, weight, bias, rows, moves, kernel)
    if out is None:
        out = F.conv2d(x, weight, bias, *moves)
    return out.contiguous(memory_format=torch.channels_last if channels_last(x) else torch.contiguous_format)


def _sparse(
    x: Tensor, weight: Tensor, bias: Tensor | None, rows: Tensor | None, moves: Geometry, kernel: str
) -> Tensor | None:
    """Run a compiled kernel, or return None for the dense one."""
    if kernel == "dense" or x.numel() == 0:
        return None
    if kernel not in ("auto", "event", "amx"):
        raise UnsupportedError(f"spike_conv2d: no kernel {kernel!r}; it has auto, dense, event and amx")
    reason = cpp.refusal(x, weight, bias)
    if reason is not None:
        if kernel == "auto":
            return None
        raise UnsupportedError(f"spike_conv2d: kernel {kernel!r} cannot run: {reason}")
    m, c, h, w = x.shape
    words = x.new_empty((m, h, w, -(-c // WORD)), dtype=torch.int32)
    # A first map with sums of spikes shows that packing to bits would be in vain.
    sums_ahead = kernel == "amx" and bool((x[0] > 1).any())
    counts = (1, 0) if sums_ahead else neuron_cpp.count_and_pack(x, words)
    if counts is None:
        return None
    odd, nonzero = counts
    at_hand = None if rows is None else kernel_of(rows)
    sums = None
    if odd and (at_hand if kernel == "auto" else kernel) == "amx":
        sums, reason = amx.pack_counts(x, weight[0].numel())
        if kernel == "amx" and reason is not None:
            raise UnsupportedError(f"spike_conv2d: kernel 'amx' cannot run: {reason}")
    if kernel == "auto":
        kernel = choose(nonzero / x.numel(), odd == 0 or sums is not None, at_hand)
        if kernel == "event" and at_hand != "event" and not bool(torch.isfinite(weight).all()):
            kernel = "dense"
    if kernel == "dense":
        return None
    if rows is None or at_hand != kernel:
        rows = pack_weight(weight, moves.groups, kernel=kernel)
    out = _empty(x, m, weight.shape[0], moves.output((h, w), weight.shape[2:]), channels_last(x))
    shape = (tuple(x.shape), tuple(weight.shape), moves)
    if kernel == "amx" and sums is not None:
        amx.conv_counts(sums, rows, bias, out, shape)
    elif kernel == "amx":
        amx.conv_words(words, rows, bias, out, shape)
    elif odd == 0:
        cpp.conv_words(words, rows, bias, out, shape)
    else:
        cpp.conv_values(x, rows, bias, out, shape)
    return out


@spike_conv2d.register_fake
def _(x: Tensor, weight: Tensor, bias: Any, rows: Any, geometry: list[int], kernel: str) -> Tensor:
    size = Geometry.of(geometry).output(x.shape[2:], weight.shape[2:])
    return _empty(x, x.shape[0], weight.shape[0], size, channels_last(dense_layout(x)))


def _save_conv(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, bias, _, ctx.geometry, _ = inputs
    ctx.bias_size = None if bias is None else [weight.shape[0]]
    ctx.save_for_backward(x, weight)


def _differentiate_conv(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    stride, padding, dilation, groups = Geometry.of(ctx.geometry)
    wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias_size is not None and ctx.needs_input_grad[2]]
    gx, gw, gb = torch.ops.aten.convolution_backward(
        grad, x, weight, ctx.bias_size, stride, padding, dilation, False, [0, 0], groups, wanted
    )
    return gx, gw, gb, None, None, None


spike_conv2d.register_autograd(_differentiate_conv, setup_context=_save_conv)


@torch.library.custom_op("sparseflow::conv_words", mutates_args=())
def conv_words(words: Tensor, rows: Tensor, bias: Tensor | None, weight: list[int], geometry: list[int]) -> Tensor:
    """Run `sparseflow.ops.conv2d_spike.conv_words` on checked operands; `weight` is the weight's shape."""
    moves, (m, h, w, _) = Geometry.of(geometry), words.shape
    out = _empty(_floats(rows), m, weight[0], moves.output((h, w), weight[2:]), True)
    if kernel_of(rows) == "dense":
        return out.copy_(reference.conv_words(words, rows, bias, moves))
    if m > 0:
        _require("conv_words", (words, rows), bias)
        run = amx.conv_words if kernel_of(rows) == "amx" else cpp.conv_words
        run(words, rows, bias, out, _shape(words, weight, moves))
    return out


def _require(what: str, packed: Sequence[Tensor | None], *floats: Tensor | None) -> None:
    reason = cpp.refusal(*floats, packed=packed)
    if reason is not None:
        raise UnsupportedError(f"{what}: the compiled kernels cannot run: {reason}")


def _shape(words: Tensor, weight: list[int], moves: Geometry) -> cpp.Shape:
    m, h, w, _ = words.shape
    return (m, weight[1] * moves.groups, h, w), tuple(weight), moves


@conv_words.register_fake
def _(words: Tensor, rows: Tensor, bias: Any, weight: list[int], geometry: list[int]) -> Tensor:
    size = Geometry.of(geometry).output(words.shape[1:3], weight[2:])
    return _empty(_floats(rows), words.shape[0], weight[0], size, True)


@torch.library.custom_op("sparseflow::conv_words_backward", mutates_args=())
def _conv_words_backward(grad: Tensor, words: Tensor, weight: list[int], geometry: list[int]) -> Tensor:
    moves = Geometry.of(geometry)
    x = neuron.unpack_spikes(words, weight[1] * moves.groups, grad.dtype)
    stride, padding, dilation, groups = moves
    gw: Tensor = torch.ops.aten.convolution_backward(
        grad, x, grad.new_empty(weight), None, stride, padding, dilation, False, [0, 0], groups, [False, True, False]
    )[1]
    return gw.contiguous()


@_conv_words_backward.register_fake
def _(grad: Tensor, words: Tensor, weight: list[int], geometry: list[int]) -> Tensor:
    return grad.new_empty(weight)


def _save_words(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    words, rows, _, ctx.weight, ctx.geometry = inputs
    ctx.plain = rows.ndim == 4
    ctx.save_for_backward(words)


def _differentiate_words(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    (words,) = ctx.saved_tensors
    wanted = ctx.plain and ctx.needs_input_grad[1]
    gw = _conv_words_backward(grad, words, ctx.weight, ctx.geometry) if wanted else None
    return None, gw, grad.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None, None, None


conv_words.register_autograd(_differentiate_words, setup_context=_save_words)


@torch.library.custom_op("sparseflow::conv_lif", mutates_args=())
def conv_lif(
    words: Tensor,
    rows: Tensor,
    bias: Tensor | None,
    v0: Tensor | None,
    residual: Tensor | None,
    weight: list[int],
    geometry: list[int],
    steps: int,
    tau: float,
    v_threshold: float,
    v_reset: float | None,
    decay_input: bool,
    leak: bool,
) -> tuple[Tensor, Tensor]:
    """Run `sparseflow.ops.conv2d_spike.conv_lif` on checked operands; `weight` is the weight's shape."""
    params = params_of(tau, v_threshold, v_reset, decay_input, leak)
    moves = Geometry.of(geometry)
    out, v = _empty_lif(words, rows, weight, moves, steps)
    if kernel_of(rows) == "dense":
        if residual is not None and residual.dtype == torch.int32:
            residual = neuron.unpack_spikes(residual, weight[0], rows.dtype)
        values = reference.conv_lif(words, rows, bias, params, moves, steps=steps, v0=v0, residual=residual)
        return out.copy_(values[0]), v.copy_(values[1])
    if words.shape[0] > 0:
        bits = residual is not None and residual.dtype == torch.int32
        _require("conv_lif", (words, rows, residual if bits else None), bias, v0, None if bits else residual)
        run = amx.conv_lif if kernel_of(rows) == "amx" else cpp.conv_lif
        run(words, rows, bias, params, steps, v0, residual, out, v, _shape(words, weight, moves))
    return out, v


def _empty_lif(words: Tensor, rows: Tensor, weight: list[int], moves: Geometry, steps: int) -> tuple[Tensor, Tensor]:
    m, h, w, _ = words.shape
    size = moves.output((h, w), weight[2:])
    return words.new_empty((m, *size, -(-weight[0] // WORD))), _empty(_floats(rows), m // steps, weight[0], size, True)


@conv_lif.register_fake
def _(
    words: Tensor,
    rows: Tensor,
    bias: Any,
    v0: Any,
    residual: Any,
    weight: list[int],
    geometry: list[int],
    steps: int,
    *_: Any,
) -> tuple[Tensor, Tensor]:
    return _empty_lif(words, rows, weight, Geometry.of(geometry), steps)


def _save_conv_lif(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    words, rows, bias, v0, residual, ctx.weight, ctx.geometry, *ctx.constants = inputs
    ctx.save_for_backward(words, rows, bias, v0, residual)


def _differentiate_conv_lif(ctx: Any, _: Any, grad_v: Tensor) -> tuple[Any, ...]:
    words, rows, bias, v0, residual = ctx.saved_tensors
    y = torch.ops.sparseflow.conv_words(words, rows, bias, ctx.weight, ctx.geometry)
    if residual is not None:
        packed = residual.dtype == torch.int32
        y = y + (torch.ops.sparseflow.unpack_spikes(residual, ctx.weight[0]) if packed else residual)
    steps, *constants = ctx.constants
    no_grad = torch.zeros_like(y)
    gy, gv = torch.ops.sparseflow.lif_backward(no_grad, grad_v, y, v0, steps, False, *constants)
    need = ctx.needs_input_grad
    gw = None
    if need[1] and rows.ndim == 4:
        gw = _conv_words_backward(gy, words, ctx.weight, ctx.geometry)
    gb = gy.sum((0, 2, 3)) if need[2] else None
    return None, gw, gb, gv if need[3] else None, gy if need[4] else None, None, None, *[None] * len(ctx.constants)


conv_lif.register_autograd(_differentiate_conv_lif, setup_context=_save_conv_lif)
