"""Convolution in two stages: find the active blocks of the input, then compute with those alone."""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import channels_last, dense_layout, run
from sparseflow.ops.conv2d_block import reference
from sparseflow.ops.conv2d_block.space import BLOCKS, OP
from sparseflow.ops.conv2d_spike.reference import Geometry, Pair
from sparseflow.ops.lif import on_triton, pair

__all__ = ["BLOCKS", "OP", "conv2d_block"]

KERNELS = ("auto", "dense", "triton")


def conv2d_block(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    block: int,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
    kernel: str = "auto",
) -> Tensor:
    """Convolve, skipping the input where whole blocks are zero; a drop-in for `F.conv2d`.

    Stage 1 flags each `block` by `block` tile of each channel that holds anything
    but zeros. Stage 2 owns a block of outputs, looks at the flags of all input
    blocks that its window touches, neighbours included, and multiplies only
    channels of which one of them is active. Both stages are inside the call.

    Args:
        x: `[M, C, H, W]`, any values; float32, float16 or bfloat16.
        weight: `[Cout, C/groups, kh, kw]`.
        bias: `[Cout]`, or None.
        block: 4, 8 or 16.
        stride: step of the window.
        padding: zeros around the map.
        dilation: step inside the window.
        groups: channel groups; the Triton kernel takes 1.
        kernel: "dense", "triton", or "auto": Triton on CUDA tensors that it takes, dense elsewhere.

    Returns:
        `[M, Cout, Ho, Wo]` in the type and memory format of `x`; gradients are those of `F.conv2d`.

    Raises:
        UnsupportedError: the Triton kernel rejects these operands; says why.
        ConfigError: shapes that do not fit, or another block size.

    Cost: 2*MACs times the share of 32-channel groups with an active block in reach; reads `x` twice.
    Source: SparseFlow, with the neighbours' halo that its first kernel left out.

    >>> conv2d_block(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3), block=4).item()
    9.0
    """
    geometry = Geometry(pair(stride), pair(padding), pair(dilation), groups)
    if x.ndim != 4 or weight.ndim != 4 or groups < 1 or x.shape[1] != weight.shape[1] * groups:
        raise ConfigError(f"conv2d_block: input {tuple(x.shape)} and weight {tuple(weight.shape)} do not fit")
    if block not in BLOCKS:
        raise ConfigError(f"conv2d_block: block is {block}; expected one of {', '.join(map(str, BLOCKS))}")
    if min(geometry.output(x.shape[2:], weight.shape[2:])) < 1:
        raise ConfigError(f"conv2d_block: weight {tuple(weight.shape)} does not fit a map of {tuple(x.shape[2:])}")
    if kernel not in KERNELS:
        raise UnsupportedError(f"conv2d_block: no kernel {kernel!r}; there are {', '.join(KERNELS)}")
    refusal = _refusal(x, groups)
    if kernel == "triton" and refusal is not None:
        raise UnsupportedError(f"conv2d_block: kernel 'triton' {refusal}")
    chosen = "dense" if kernel == "dense" or refusal is not None else "triton"
    return run(_conv, x, weight, bias, geometry.flat(), block, chosen == "triton")  # type: ignore[no-any-return]


def _refusal(x: Tensor, groups: int) -> str | None:
    if groups != 1:
        return f"takes one group, not {groups}"
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"takes float32, float16 and bfloat16, not {x.dtype}"
    return None if on_triton(x) else f"takes CUDA tensors where Triton is installed; this one is on {x.device}"


@torch.library.custom_op("sparseflow::conv2d_block", mutates_args=())
def _conv(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: list[int], block: int, sparse: bool) -> Tensor:
    moves, x = Geometry.of(geometry), dense_layout(x)
    y = _empty(x, weight, moves)
    if not sparse:
        return y.copy_(reference.conv2d_block(x, weight, bias, moves))
    from sparseflow.ops.conv2d_block import triton

    triton.conv2d_block(x, weight, bias, moves, block, y)
    return y


@_conv.register_fake
def _(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: list[int], block: int, sparse: bool) -> Tensor:
    return _empty(dense_layout(x), weight, Geometry.of(geometry))


def _empty(x: Tensor, weight: Tensor, moves: Geometry) -> Tensor:
    shape = (x.shape[0], weight.shape[0], *moves.output(x.shape[2:], weight.shape[2:]))
    layout = torch.channels_last if channels_last(x) else torch.contiguous_format
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x, weight, bias, ctx.geometry, _, _ = inputs
    ctx.save_for_backward(x, weight)
    ctx.bias_size = None if bias is None else list(bias.shape)


def _differentiate(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, weight = ctx.saved_tensors
    stride, padding, dilation, groups = Geometry.of(ctx.geometry)
    wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.bias_size is not None]
    grads = torch.ops.aten.convolution_backward(
        grad, x, weight, ctx.bias_size, stride, padding, dilation, False, (0, 0), groups, wanted
    )
    return (*grads, None, None, None)


_conv.register_autograd(_differentiate, setup_context=_save)
