"""Convolution of an integer network: bytes in, exact sums, bytes out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.conv2d_codes import reference
from sparseflow.ops.conv2d_codes.space import OP
from sparseflow.ops.lif import on_triton

__all__ = ["OP", "conv2d_codes"]

_KERNELS = ("auto", "dense", "triton")


def conv2d_codes(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    multiplier: Tensor,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int] = (0, 0),
    dilation: tuple[int, int] = (1, 1),
    bounds: tuple[int, int, int] | None = (0, 127, 0),
    kernel: str = "auto",
) -> Tensor:
    """Convolve codes and round to codes.

    sums[m] = Σ weight[m] · code, an int32; code = clamp(round((float32(sums) + bias) · multiplier) + zero, low, high),
    halves to even. Both steps of the scaling are rounded to float32 by themselves, so that every kernel returns the
    same codes, and those of `IntegerLayer`.

    Args:
        codes: uint8 `[N, C, H, W]`, 0 to 127, zero point 0.
        weight: int8 `[C_out, C, KH, KW]`.
        bias: float32 `[C_out]`, in units of the sums.
        multiplier: float32 `[C_out]`, steps of the output in a step of the sums.
        stride: of the window.
        padding: zeros around.
        dilation: of the window.
        bounds: smallest code, largest code and zero point of the output; None for real numbers.
        kernel: "dense", "triton", or "auto" for the fastest that runs.

    Returns:
        uint8 `[N, C_out, H', W']`, or float32 for real numbers; channels last.

    Raises:
        ConfigError: operands of other shapes or types, a window that does not fit, or no such kernel.
        UnsupportedError: the named kernel does not take these codes.

    Cost: 2·N·C_out·H'·W'·C·KH·KW integer operations; each operand is moved once.
    Source: Jacob et al., CVPR 2018, section 2; the implicit product is ours.

    >>> one = torch.ones(1)
    >>> conv2d_codes(torch.full((1, 1, 1, 1), 5, dtype=torch.uint8), torch.full((1, 1, 1, 1), 3, dtype=torch.int8),
    ...              one, one * 0.5).item()
    8
    """
    if codes.dtype != torch.uint8 or codes.ndim != 4 or weight.dtype != torch.int8 or weight.ndim != 4:
        raise ConfigError(
            f"conv2d_codes: codes are {codes.dtype} {tuple(codes.shape)}, weight {weight.dtype} {tuple(weight.shape)};"
            " expected uint8 [N, C, H, W] and int8 [C_out, C, KH, KW]"
        )
    if codes.shape[1] != weight.shape[1] or bias.shape != weight.shape[:1] or multiplier.shape != weight.shape[:1]:
        raise ConfigError(
            f"conv2d_codes: {codes.shape[1]} channels and {tuple(bias.shape)}, {tuple(multiplier.shape)} factors do not"
            f" fit weights {tuple(weight.shape)}"
        )
    if kernel not in _KERNELS:
        raise ConfigError(f"conv2d_codes: kernel is {kernel!r}; expected one of {', '.join(_KERNELS)}")
    if kernel == "triton" and not on_triton(codes):
        raise UnsupportedError(
            "conv2d_codes: kernel 'triton' cannot run: it takes CUDA tensors, and Triton must be installed; "
            f"codes are on {codes.device}"
        )
    if min(_sides(codes.shape[2:], weight.shape[2:], stride, padding, dilation)) < 1:
        raise ConfigError(f"conv2d_codes: a window {tuple(weight.shape[2:])} does not fit {tuple(codes.shape[2:])}")
    out: Tensor = run(
        _conv2d_codes, codes, weight, bias, multiplier, list(stride), list(padding), list(dilation),
        None if bounds is None else list(bounds), kernel,
    )  # fmt: skip
    return out


def _sides(
    size: Sequence[int], window: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> tuple[int, ...]:
    each = zip(size, window, stride, padding, dilation, strict=True)
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in each)


def _empty(
    codes: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], real: bool
) -> Tensor:
    sides = _sides(codes.shape[2:], weight.shape[2:], stride, padding, dilation)
    made = codes.new_empty((codes.shape[0], *sides, weight.shape[0]), dtype=torch.float32 if real else torch.uint8)
    return made.permute(0, 3, 1, 2)


@torch.library.custom_op("sparseflow::conv2d_codes", mutates_args=())
def _conv2d_codes(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    multiplier: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    bounds: list[int] | None,
    kernel: str,
) -> Tensor:
    low, high, zero = bounds or (0, 0, 0)
    geometry: dict[str, Any] = {
        name: (pair[0], pair[1]) for name, pair in (("stride", stride), ("padding", padding), ("dilation", dilation))
    }
    if kernel != "dense" and on_triton(codes):
        from sparseflow.ops.conv2d_codes import triton

        out = _empty(codes, weight, stride, padding, dilation, bounds is None)
        last = torch.channels_last
        triton.convolve(
            codes.contiguous(memory_format=last), weight.contiguous(memory_format=last), bias, multiplier, out,
            bounds=(low, high, zero), **geometry,
        )  # fmt: skip
        return out
    found = reference.convolve(
        codes, weight, bias, multiplier, bounds=None if bounds is None else (low, high, zero), **geometry
    )
    out = _empty(codes, weight, stride, padding, dilation, bounds is None)
    return out.copy_(found)


@_conv2d_codes.register_fake
def _(
    codes: Tensor,
    weight: Tensor,
    bias: Tensor,
    multiplier: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    bounds: list[int] | None,
    kernel: str,
) -> Tensor:
    return _empty(codes, weight, stride, padding, dilation, bounds is None)
