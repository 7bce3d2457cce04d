"""Spiking neurons over time, and spikes packed 32 to a word."""

from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops._library import channels_last, dense_layout, empty, run
from sparseflow.ops.lif import cpp, reference
from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.lif.space import OP
from sparseflow.ops.lif.summed import add_lif_pack

__all__ = ["OP", "WORD", "LIFParams", "add_lif_pack", "lif", "lif_pack", "or_pool2d", "pack_spikes", "unpack_spikes"]

Pair = tuple[int, int]


def lif(
    x: Tensor, params: LIFParams, *, steps: int, v0: Tensor | None = None, repeat: bool = False
) -> tuple[Tensor, Tensor]:
    """Integrate and fire over all time steps.

    With `r = v_reset` (0 if None), for t = 0..T-1, element by element:
    `h = v + (x[t] - (v - r)) / tau` (`decay_input`), `h = v - (v - r) / tau + x[t]`
    (not), or `h = v + x[t]` (kind "if"); `s[t] = [h >= v_threshold]`; then
    `v = r` where a spike fell (hard reset) or `v = h - v_threshold * s[t]` (soft).

    Args:
        x: `[T*N, ...]` input currents, time outermost, any float type.
        params: constants of the neurons.
        steps: T.
        v0: `[N, ...]` potential before the first step; `params.v_rest` if None.
        repeat: `x` is `[N, ...]`, the same at every step.

    Returns:
        Spikes `[T*N, ...]` in the type and layout of `x`, and the potential
        `[N, ...]` after the last step. The gradient is that of the arctangent
        surrogate, `1 / (1 + (pi * (h - v_threshold))^2)`, through the reset too.

    Raises:
        ConfigError: `steps` does not divide the first size, or `v0` has another shape.

    Cost: 6 flops an element (3 for "if"); reads and writes `x` once.
    Source: Fang et al., Science Advances 2023 (SpikingJelly).

    >>> lif(torch.tensor([1.5, 1.5, 3.0]), LIFParams(), steps=3)
    (tensor([0., 1., 1.]), tensor([0.]))
    """
    check_steps("lif", x, steps, v0, repeat)
    spikes, v = run(_lif, x, v0, steps, repeat, *fields(params))
    return spikes, v


def lif_pack(
    x: Tensor, params: LIFParams, *, steps: int, v0: Tensor | None = None, repeat: bool = False
) -> tuple[Tensor, Tensor]:
    """`lif`, with the spikes packed; packed spikes carry no gradient.

    Args:
        x: `[T*N, C, H, W]` input currents.
        params: constants of the neurons.
        steps: T.
        v0: `[N, C, H, W]` potential before the first step; `params.v_rest` if None.
        repeat: `x` is `[N, C, H, W]`, the same at every step.

    Returns:
        Words `[T*N, H, W, ceil(C/32)]` and the potential `[N, C, H, W]`.

    Raises:
        ConfigError: as `lif`, or `x` is not 4-D.

    >>> lif_pack(torch.ones(1, 2, 1, 1), LIFParams(kind="if"), steps=1)[0]
    tensor([[[[3]]]], dtype=torch.int32)
    """
    check_steps("lif_pack", x, steps, v0, repeat)
    if x.ndim != 4:
        raise ConfigError(f"lif_pack: x has shape {tuple(x.shape)}; expected [T*N, C, H, W]")
    words, v = run(_lif_pack, x, v0, steps, repeat, *fields(params))
    return words, v


def pack_spikes(x: Tensor, planes: int = 1) -> Tensor:
    """Pack spikes, or small counts, into bits.

    Args:
        x: `[M, C, H, W]` or `[M, K]`, every value 0 or 1, or a whole number below `2**planes`.
        planes: bits of a count; 1 for spikes.

    Returns:
        int32 `[M, H, W, planes*ceil(C/32)]` (`H = W = 1` for `[M, K]`): bit b of word
        `p*ceil(C/32) + w` is bit p of channel `32*w + b`; bits past the last channel are 0.

    Raises:
        ConfigError: neither 2-D nor 4-D, or `planes` is not positive.
        DataError: another value, on the CPU. On CUDA nothing is checked, so that the
            host need not wait: with one plane every value but 0 is a spike, with
            more the low bits of the whole part are kept.

    Cost: reads `x` once, writes 1/32 of it.

    >>> pack_spikes(torch.tensor([[1.0, 0.0, 1.0]]))
    tensor([[[[5]]]], dtype=torch.int32)
    """
    if x.ndim not in (2, 4):
        raise ConfigError(f"pack_spikes: x has shape {tuple(x.shape)}; expected [M, C, H, W] or [M, K]")
    if planes < 1:
        raise ConfigError(f"pack_spikes: planes is {planes}; expected 1 or more")
    return run(_pack, x, planes)  # type: ignore[no-any-return]


def unpack_spikes(words: Tensor, channels: int, planes: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unpack bits into floats.

    Args:
        words: int32 `[M, H, W, planes*ceil(C/32)]`.
        channels: C.
        planes: bits of a count; 1 for spikes.
        dtype: float32 or float16.

    Returns:
        `[M, C, H, W]`, channels last in memory.

    Raises:
        ConfigError: `words` is not such a tensor, or another type.

    >>> unpack_spikes(pack_spikes(torch.tensor([[1.0, 0.0, 1.0]])), 3).flatten()
    tensor([1., 0., 1.])
    """
    check_words("unpack_spikes", words, channels, planes)
    if dtype not in (torch.float32, torch.float16):
        raise ConfigError(f"unpack_spikes: dtype is {dtype}; expected torch.float32 or torch.float16")
    return run(_unpack, words, channels, planes, dtype == torch.float16)  # type: ignore[no-any-return]


def or_pool2d(words: Tensor, kernel: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0) -> Tensor:
    """Max-pool packed spikes: a bit-wise or over each window.

    Args:
        words: int32 `[M, H, W, ceil(C/32)]`.
        kernel: window height and width.
        stride: step between windows; `kernel` if None.
        padding: zeros around the map, at most half the window.

    Returns:
        Words `[M, Ho, Wo, ceil(C/32)]`, `Ho = (H + 2*padding - kernel) // stride + 1`.

    Raises:
        ConfigError: `words` is not such a tensor, or the window does not fit.

    >>> or_pool2d(torch.tensor([[[[1], [4]]]], dtype=torch.int32), (1, 2))
    tensor([[[[5]]]], dtype=torch.int32)
    """
    check_words("or_pool2d", words, None)
    k, p = pair(kernel), pair(padding)
    s = k if stride is None else pair(stride)
    if min(*k, *s) < 1 or min(p) < 0 or 2 * p[0] > k[0] or 2 * p[1] > k[1]:
        raise ConfigError(f"or_pool2d: kernel {k}, stride {s}, padding {p}; padding is at most half the kernel")
    if words.shape[1] + 2 * p[0] < k[0] or words.shape[2] + 2 * p[1] < k[1]:
        raise ConfigError(f"or_pool2d: kernel {k} does not fit a map of {tuple(words.shape[1:3])}")
    return run(_or_pool, words, list(k), list(s), list(p))  # type: ignore[no-any-return]


def pair(value: int | Pair) -> Pair:
    """Return a size for both axes.

    >>> pair(3), pair((1, 2))
    ((3, 3), (1, 2))
    """
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def fields(params: LIFParams) -> tuple[float, float, float | None, bool, bool]:
    """Return the constants as an operator schema takes them."""
    return params.tau, params.v_threshold, params.v_reset, params.decay_input, params.kind == "lif"


def params_of(tau: float, v_threshold: float, v_reset: float | None, decay_input: bool, leak: bool) -> LIFParams:
    """Undo `fields`."""
    kind = "lif" if leak else "if"
    return LIFParams(tau=tau, v_threshold=v_threshold, v_reset=v_reset, decay_input=decay_input, kind=kind)


def check_steps(what: str, x: Tensor, steps: int, v0: Tensor | None, repeat: bool = False) -> None:
    """Refuse a time axis that does not divide, or a state of another shape."""
    if steps < 1 or x.ndim < 1 or (x.shape[0] % steps and not repeat):
        raise ConfigError(f"{what}: steps is {steps}, but x has shape {tuple(x.shape)}; expected [steps*N, ...]")
    want = (x.shape[0] if repeat else x.shape[0] // steps, *x.shape[1:])
    if v0 is not None and v0.shape != want:
        raise ConfigError(f"{what}: v0 has shape {tuple(v0.shape)}; expected {want}")


def check_words(what: str, words: Tensor, channels: int | None, planes: int = 1) -> None:
    """Refuse what is not a tensor of packed spikes."""
    if words.dtype != torch.int32 or words.ndim != 4:
        raise ConfigError(f"{what}: words is {words.dtype} {tuple(words.shape)}; expected int32 [M, H, W, ceil(C/32)]")
    if planes < 1 or (channels is not None and words.shape[3] != planes * -(-channels // WORD)):
        want = planes * -(-(channels or 0) // WORD)
        many = "" if planes == 1 else f" in {planes} planes"
        raise ConfigError(f"{what}: {channels} channels{many} take {want} words, got {words.shape[3]}")


def on_triton(x: Tensor) -> bool:
    """Tell whether the Triton kernels take this tensor: on a CUDA device, not float64, and Triton is installed."""
    return x.is_cuda and x.dtype != torch.float64 and _has_triton()


@cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


@torch.library.custom_op("sparseflow::lif", mutates_args=())
def _lif(
    x: Tensor,
    v0: Tensor | None,
    steps: int,
    repeat: bool,
    tau: float,
    v_threshold: float,
    v_reset: float | None,
    decay_input: bool,
    leak: bool,
) -> tuple[Tensor, Tensor]:
    params = params_of(tau, v_threshold, v_reset, decay_input, leak)
    x = dense_layout(x)
    spikes, v = _empty_lif(x, steps, repeat)
    if on_triton(x):
        from sparseflow.ops.lif import triton

        triton.lif(x, v0, params, steps, repeat, spikes, v)
    elif not cpp.lif(x, v0, params, steps, repeat, spikes, v):
        values = reference.lif(x.repeat(steps, *[1] * (x.ndim - 1)) if repeat else x, params, steps=steps, v0=v0)
        spikes.copy_(values[0]), v.copy_(values[1])
    return spikes, v


@_lif.register_fake
def _(x: Tensor, v0: Tensor | None, steps: int, repeat: bool, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty_lif(dense_layout(x), steps, repeat)


@torch.library.custom_op("sparseflow::lif_backward", mutates_args=())
def _lif_backward(
    grad_spikes: Tensor,
    grad_v: Tensor,
    x: Tensor,
    v0: Tensor | None,
    steps: int,
    repeat: bool,
    tau: float,
    v_threshold: float,
    v_reset: float | None,
    decay_input: bool,
    leak: bool,
) -> tuple[Tensor, Tensor]:
    params = params_of(tau, v_threshold, v_reset, decay_input, leak)
    gx, gv = _empty_grads(x, steps, repeat)
    inputs = x.repeat(steps, *[1] * (x.ndim - 1)) if repeat else x
    dx, dv = reference.lif_backward(grad_spikes, grad_v, inputs, params, steps=steps, v0=v0)
    dx = dx.reshape(steps, *x.shape).sum(0) if repeat else dx
    return gx.copy_(dx), gv.copy_(dv)


@_lif_backward.register_fake
def _(
    grad_spikes: Tensor, grad_v: Tensor, x: Tensor, v0: Tensor | None, steps: int, repeat: bool, *_: Any
) -> tuple[Tensor, Tensor]:
    return _empty_grads(x, steps, repeat)


def _save_lif(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, v0, *ctx.constants = inputs
    ctx.save_for_backward(x, v0)


def _differentiate_lif(ctx: Any, grad_spikes: Tensor, grad_v: Tensor) -> tuple[Any, ...]:
    x, v0 = ctx.saved_tensors
    gx, gv = _lif_backward(grad_spikes, grad_v, x, v0, *ctx.constants)
    return gx, None if v0 is None else gv, *[None] * len(ctx.constants)


_lif.register_autograd(_differentiate_lif, setup_context=_save_lif)


@torch.library.custom_op("sparseflow::lif_pack", mutates_args=())
def _lif_pack(
    x: Tensor,
    v0: Tensor | None,
    steps: int,
    repeat: bool,
    tau: float,
    v_threshold: float,
    v_reset: float | None,
    decay_input: bool,
    leak: bool,
) -> tuple[Tensor, Tensor]:
    params = params_of(tau, v_threshold, v_reset, decay_input, leak)
    x = dense_layout(x)
    words, v = _empty_lif_pack(x, steps, repeat)
    if on_triton(x):
        from sparseflow.ops.lif import triton

        triton.lif_pack(x, v0, params, steps, repeat, words, v)
    elif not cpp.lif_pack(x, v0, params, steps, repeat, words, v):
        values = reference.lif_pack(x.repeat(steps, 1, 1, 1) if repeat else x, params, steps=steps, v0=v0)
        words.copy_(values[0]), v.copy_(values[1])
    return words, v


@_lif_pack.register_fake
def _(x: Tensor, v0: Tensor | None, steps: int, repeat: bool, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty_lif_pack(dense_layout(x), steps, repeat)


@torch.library.custom_op("sparseflow::pack_spikes", mutates_args=())
def _pack(x: Tensor, planes: int = 1) -> Tensor:
    x = dense_layout(x)
    words = _empty_words(x, planes=planes)
    if on_triton(x):
        from sparseflow.ops.lif import triton

        triton.pack_spikes(x, words, planes)
        return words
    return words if planes == 1 and cpp.pack_spikes(x, words) else words.copy_(reference.pack_spikes(x, planes))


@_pack.register_fake
def _(x: Tensor, planes: int = 1) -> Tensor:
    return _empty_words(x, planes=planes)


@torch.library.custom_op("sparseflow::unpack_spikes", mutates_args=())
def _unpack(words: Tensor, channels: int, planes: int = 1, half: bool = False) -> Tensor:
    x = _empty_spikes(words, channels, half)
    if on_triton(words):
        from sparseflow.ops.lif import triton

        triton.unpack_spikes(words, channels, x, planes)
        return x
    if planes == 1 and cpp.unpack_spikes(words, channels, x):
        return x
    return x.copy_(reference.unpack_spikes(words, channels, planes=planes))


@_unpack.register_fake
def _(words: Tensor, channels: int, planes: int = 1, half: bool = False) -> Tensor:
    return _empty_spikes(words, channels, half)


@torch.library.custom_op("sparseflow::or_pool2d", mutates_args=())
def _or_pool(words: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    out = _empty_pooled(words, kernel, stride, padding)
    if on_triton(words):
        from sparseflow.ops.lif import triton

        triton.or_pool2d(words, kernel, stride, padding, out)
    elif not cpp.or_pool2d(words, kernel, stride, padding, out):
        out.copy_(reference.or_pool2d(words, (kernel[0], kernel[1]), (stride[0], stride[1]), (padding[0], padding[1])))
    return out


@_or_pool.register_fake
def _(words: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    return _empty_pooled(words, kernel, stride, padding)


def _empty_words(x: Tensor, copies: int = 1, planes: int = 1) -> Tensor:
    m, c, *size = x.shape
    return x.new_empty((copies * m, *(size or (1, 1)), planes * -(-c // WORD)), dtype=torch.int32)


def _empty_lif(x: Tensor, steps: int, repeat: bool) -> tuple[Tensor, Tensor]:
    if not repeat:
        return torch.empty_like(x), torch.empty_like(x[: x.shape[0] // steps])
    spikes = x.new_empty((steps * x.shape[0], *x.shape[1:]))
    return spikes.to(memory_format=torch.channels_last) if channels_last(x) else spikes, torch.empty_like(x)


def _empty_lif_pack(x: Tensor, steps: int, repeat: bool) -> tuple[Tensor, Tensor]:
    v = torch.empty_like(x if repeat else x[: x.shape[0] // steps])
    return _empty_words(x, steps if repeat else 1), v


def _empty_grads(x: Tensor, steps: int, repeat: bool) -> tuple[Tensor, Tensor]:
    x = dense_layout(x)
    return torch.empty_like(x), torch.empty_like(x if repeat else x[: x.shape[0] // steps])


def _empty_spikes(words: Tensor, channels: int, half: bool) -> Tensor:
    m, h, w, _ = words.shape
    dtype = torch.float16 if half else torch.float32
    return empty(words, (m, h, w, channels), dtype).permute(0, 3, 1, 2)


def _empty_pooled(words: Tensor, kernel: list[int], stride: list[int], padding: list[int]) -> Tensor:
    m, h, w, n = words.shape
    ho, wo = ((a + 2 * p - k) // s + 1 for a, p, k, s in zip((h, w), padding, kernel, stride, strict=True))
    return words.new_empty((m, ho, wo, n))
