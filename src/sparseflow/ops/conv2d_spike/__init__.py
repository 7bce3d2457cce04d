"""Convolution of spikes: bits in, floats or bits out, at a cost that follows the spikes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.conv2d_spike import _torch
from sparseflow.ops.conv2d_spike._rows import kernel_of, pack_weight
from sparseflow.ops.conv2d_spike.reference import Geometry, Pair
from sparseflow.ops.conv2d_spike.space import OP
from sparseflow.ops.lif import WORD, LIFParams, check_words, fields, pair

__all__ = ["OP", "conv_lif", "conv_words", "kernel_of", "pack_weight", "spike_conv2d"]


def spike_conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    kernel: str = "auto",
) -> Tensor:
    """Convolve, faster where the input is sparse; a drop-in for `F.conv2d`.

    `y[m, o] = bias[o] + sum over c, i, j of weight[o, c, i, j] * x[m, c, ...]`,
    accumulated in float32. Any input is handled right: 0/1 inputs pack to bits
    first, others go as sparse values, or densely.

    Args:
        x: `[M, C, H, W]`, any values, any float type (the event kernel takes float32).
        weight: `[Cout, C/groups, kh, kw]`.
        bias: `[Cout]`, or None.
        rows: `pack_weight(weight, groups)` if at hand; saves packing at every call.
        stride: step of the window.
        padding: zeros around the map.
        dilation: step inside the window.
        groups: channel groups.
        kernel: "dense", "event", or "auto" (by measured crossover density).

    Returns:
        `[M, Cout, Ho, Wo]` in the type and memory format of `x`; gradients are those of `F.conv2d`.

    Raises:
        UnsupportedError: the named kernel rejects these operands; says why.
        ConfigError: shapes that do not fit.

    Cost: one addition an active input, tap and output channel, against 2*MACs dense.
    Source: ours.

    >>> spike_conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)).item()
    9.0
    """
    geometry = Geometry(pair(stride), pair(padding), pair(dilation), groups)
    _check("spike_conv2d", x.shape, weight.shape, geometry)
    _check_bias("spike_conv2d", bias, weight.shape[0])
    return run(_torch.spike_conv2d, x, weight, bias, rows, geometry.flat(), kernel)  # type: ignore[no-any-return]


def conv_words(
    words: Tensor,
    rows: Tensor,
    bias: Tensor | None = None,
    *,
    channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    kernel: str = "auto",
) -> Tensor:
    """Convolve packed spikes: bits in, floats out.

    Args:
        words: int32 `[M, H, W, ceil(channels/32)]`.
        rows: from `pack_weight`; its kind decides the kernel.
        bias: `[out_channels]`, or None.
        channels: input channels.
        out_channels: output channels.
        kernel_size: window height and width.
        stride: step of the window.
        padding: zeros around the map.
        dilation: step inside the window.
        groups: channel groups.
        kernel: "auto", or the kernel that `rows` were packed for.

    Returns:
        float32 `[M, out_channels, Ho, Wo]`, channels last in memory. Gradients
        reach `bias`, and `rows` if that is the plain weight ("dense").

    Raises:
        UnsupportedError: `rows` were packed for another kernel, or it rejects these operands.
        ConfigError: shapes that do not fit.

    Cost: one addition a set bit, tap and output channel.
    """
    geometry = Geometry(pair(stride), pair(padding), pair(dilation), groups)
    size = [out_channels, channels // groups, *pair(kernel_size)]
    _check_packed("conv_words", words, rows, channels, size, geometry, kernel)
    _check_bias("conv_words", bias, out_channels)
    return run(_torch.conv_words, words, rows, bias, size, geometry.flat())  # type: ignore[no-any-return]


def conv_lif(
    words: Tensor,
    rows: Tensor,
    bias: Tensor | None,
    params: LIFParams,
    *,
    steps: int,
    channels: int,
    out_channels: int,
    kernel_size: int | Pair,
    v0: Tensor | None = None,
    residual: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    kernel: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Convolve packed spikes and run neurons on the result: bits in, bits out.

    The same as `lif_pack(conv_words(...) + residual, params, steps=steps, v0=v0)`,
    but the currents never leave the cache.

    Args:
        words: int32 `[steps*N, H, W, ceil(channels/32)]`.
        rows: from `pack_weight`; its kind decides the kernel.
        bias: `[out_channels]`, or None; fold a batch norm into it and the weight.
        params: constants of the neurons.
        steps: T.
        channels: input channels.
        out_channels: output channels.
        kernel_size: window height and width.
        v0: `[N, out_channels, Ho, Wo]` potential before the first step; `params.v_rest` if None.
        residual: currents added before the neurons: float `[steps*N, out_channels, Ho, Wo]`,
            or packed spikes `[steps*N, Ho, Wo, ceil(out_channels/32)]`.
        stride: step of the window.
        padding: zeros around the map.
        dilation: step inside the window.
        groups: channel groups.
        kernel: "auto", or the kernel that `rows` were packed for.

    Returns:
        Words `[steps*N, Ho, Wo, ceil(out_channels/32)]` and the last potential
        `[N, out_channels, Ho, Wo]`, channels last in memory. The words carry no
        gradient; that of the potential reaches `bias`, `v0`, a float `residual`,
        and `rows` if that is the plain weight.

    Raises:
        UnsupportedError: `rows` were packed for another kernel, or it rejects these operands.
        ConfigError: shapes that do not fit.

    Cost: one addition a set bit, tap and output channel, and 6 flops a neuron and step.
    """
    geometry = Geometry(pair(stride), pair(padding), pair(dilation), groups)
    size = [out_channels, channels // groups, *pair(kernel_size)]
    ho, wo = _check_packed("conv_lif", words, rows, channels, size, geometry, kernel)
    _check_bias("conv_lif", bias, out_channels)
    m = words.shape[0]
    if steps < 1 or m % steps:
        raise ConfigError(f"conv_lif: steps is {steps}, but words hold {m} maps; expected [steps*N, H, W, words]")
    if v0 is not None and v0.shape != (m // steps, out_channels, ho, wo):
        raise ConfigError(f"conv_lif: v0 has shape {tuple(v0.shape)}; expected {(m // steps, out_channels, ho, wo)}")
    if residual is not None:
        packed = residual.dtype == torch.int32
        want = (m, ho, wo, -(-out_channels // WORD)) if packed else (m, out_channels, ho, wo)
        if residual.shape != want:
            raise ConfigError(f"conv_lif: residual has shape {tuple(residual.shape)}; expected {want}")
    operands = (words, rows, bias, v0, residual, size, geometry.flat(), steps, *fields(params))
    words_out, v = run(_torch.conv_lif, *operands)
    return words_out, v


def _check(what: str, x: Sequence[int], weight: Sequence[int], geometry: Geometry) -> Pair:
    stride, padding, dilation, groups = geometry
    if len(x) != 4 or len(weight) != 4 or groups < 1 or x[1] != weight[1] * groups or weight[0] % groups:
        raise ConfigError(f"{what}: input {tuple(x)} and weight {tuple(weight)} do not fit in {groups} groups")
    if min(*stride, *dilation) < 1 or min(padding) < 0:
        raise ConfigError(f"{what}: stride {stride}, padding {padding}, dilation {dilation}")
    size = geometry.output(x[2:], weight[2:])
    if min(size) < 1:
        raise ConfigError(f"{what}: a {weight[2]}x{weight[3]} kernel does not fit the padded {x[2]}x{x[3]} map")
    return size


def _check_bias(what: str, bias: Tensor | None, out_channels: int) -> None:
    if bias is not None and bias.shape != (out_channels,):
        raise ConfigError(f"{what}: bias has shape {tuple(bias.shape)}; expected ({out_channels},)")


def _check_packed(
    what: str, words: Tensor, rows: Tensor, channels: int, weight: list[int], geometry: Geometry, kernel: str
) -> Pair:
    check_words(what, words, channels)
    packed_for = kernel_of(rows)
    if kernel not in ("auto", packed_for):
        raise UnsupportedError(
            f"{what}: kernel {kernel!r} was asked for, but rows are packed for {packed_for!r}; "
            f"pack them with pack_weight(weight, groups, kernel={kernel!r})"
        )
    if packed_for == "dense" and list(rows.shape) != weight:
        raise ConfigError(f"{what}: the weight has shape {tuple(rows.shape)}; expected {tuple(weight)}")
    return _check(what, (words.shape[0], channels, words.shape[1], words.shape[2]), weight, geometry)
