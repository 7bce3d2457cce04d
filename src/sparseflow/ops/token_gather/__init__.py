"""Tokens taken out of a sequence, and given back to their places."""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.lif import on_triton
from sparseflow.ops.token_gather.space import OP

__all__ = ["OP", "token_gather", "token_scatter"]

_KERNELS = ("auto", "dense", "triton")


def token_gather(x: Tensor, index: Tensor, *, kernel: str = "auto") -> Tensor:
    """Take the tokens at `index` out of each sample: y[b, i] = x[b, index[b, i]].

    Args:
        x: `[B, L, C]`, or `[B, L]` for what is carried along, as positions; any type.
        index: int64 `[B, k]`, distinct places of a sample, from 0 to L − 1, in any order.
        kernel: "dense", "triton", or "auto" for the fastest that runs; the gradient takes the same. While a program
            is compiled, "auto" is "dense", which the compiler joins with what is around it.

    Returns:
        `[B, k, C]` or `[B, k]`, type of `x`. The gradient of `x` is `token_scatter` of that of y.

    Raises:
        ConfigError: operands of other shapes, types or devices, or no such kernel.
        UnsupportedError: the named kernel does not take these operands; says why.

    Cost: no flops; reads and writes B·k·C numbers, and reads B·k places.

    >>> token_gather(torch.tensor([[10.0, 11.0, 12.0]]), torch.tensor([[2, 0]]))
    tensor([[12., 10.]])
    """
    _check(x, index, kernel, "x")
    if x.ndim == 2:
        return token_gather(x.unsqueeze(-1), index, kernel=kernel).squeeze(-1)
    if torch.compiler.is_compiling() and kernel != "triton":
        return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[2]))
    y: Tensor = run(_gather, x, index, kernel)
    return y


def token_scatter(y: Tensor, index: Tensor, length: int, *, kernel: str = "auto") -> Tensor:
    """Give tokens back to their places: x[b, index[b, i]] = y[b, i], 0 elsewhere.

    Args:
        y: `[B, k, C]` or `[B, k]`, any type.
        index: int64 `[B, k]`, distinct places of a sample, from 0 to length − 1.
        length: tokens L of x.
        kernel: as of `token_gather`, whose gradient this is; and the other way round.

    Returns:
        `[B, L, C]` or `[B, L]`, type of `y`.

    Raises:
        ConfigError: operands of other shapes, types or devices, or no such kernel.
        UnsupportedError: the named kernel does not take these operands; says why.

    Cost: no flops; reads B·k·C numbers and writes B·L·C.

    >>> token_scatter(torch.tensor([[5.0, 6.0]]), torch.tensor([[2, 0]]), 4)
    tensor([[6., 0., 5., 0.]])
    """
    _check(y, index, kernel, "y")
    if y.shape[1] != index.shape[1] or length < index.shape[1]:
        raise ConfigError(
            f"token_scatter: y has shape {list(y.shape)} and index {list(index.shape)} for {length} tokens; "
            "expected as many rows as places, and no more than tokens"
        )
    if y.ndim == 2:
        return token_scatter(y.unsqueeze(-1), index, length, kernel=kernel).squeeze(-1)
    if torch.compiler.is_compiling() and kernel != "triton":
        zeros = y.new_zeros(y.shape[0], length, y.shape[2])
        return zeros.scatter(1, index.unsqueeze(-1).expand(-1, -1, y.shape[2]), y)
    x: Tensor = run(_scatter, y, index, length, kernel)
    return x


def _check(x: Tensor, index: Tensor, kernel: str, name: str) -> None:
    if kernel not in _KERNELS:
        raise ConfigError(f"token_gather: kernel is {kernel!r}; expected one of {', '.join(_KERNELS)}")
    if x.ndim not in (2, 3) or index.ndim != 2 or index.shape[0] != x.shape[0]:
        raise ConfigError(
            f"token_gather: {name} has shape {list(x.shape)} and index {list(index.shape)}; expected [B, L, C] or "
            "[B, L], and [B, k]"
        )
    if index.dtype != torch.int64 or index.device != x.device:
        raise ConfigError(
            f"token_gather: index is {index.dtype} on {index.device}; expected torch.int64 on {x.device}, as {name}"
        )
    if kernel == "triton" and not on_triton(x):
        raise UnsupportedError(
            "token_gather: kernel 'triton' cannot run: takes CUDA tensors up to float32, and Triton must be installed; "
            f"{name} is {x.dtype} on {x.device}"
        )


@torch.library.custom_op("sparseflow::token_gather", mutates_args=())
def _gather(x: Tensor, index: Tensor, kernel: str) -> Tensor:
    if kernel != "dense" and _fits_triton(x):
        from sparseflow.ops.token_gather import triton

        return triton.gather(x, index)
    # Rows of one matrix: torch copies them whole, where gather reads a place for each number.
    batch, length, width = x.shape
    flat = index + torch.arange(batch, device=x.device).unsqueeze(1) * length
    return x.reshape(batch * length, width).index_select(0, flat.view(-1)).view(*index.shape, width)


@_gather.register_fake
def _(x: Tensor, index: Tensor, kernel: str) -> Tensor:
    return x.new_empty(*index.shape, x.shape[2])


@torch.library.custom_op("sparseflow::token_scatter", mutates_args=())
def _scatter(y: Tensor, index: Tensor, length: int, kernel: str) -> Tensor:
    if kernel != "dense" and _fits_triton(y):
        from sparseflow.ops.token_gather import triton

        return triton.scatter(y, index, length)
    batch, _, width = y.shape
    flat = index + torch.arange(batch, device=y.device).unsqueeze(1) * length
    x = y.new_zeros(batch * length, width)
    return x.index_copy_(0, flat.view(-1), y.reshape(flat.numel(), width)).view(batch, length, width)


@_scatter.register_fake
def _(y: Tensor, index: Tensor, length: int, kernel: str) -> Tensor:
    return y.new_empty(y.shape[0], length, y.shape[2])


def _fits_triton(x: Tensor) -> bool:
    return on_triton(x) and x.dtype != torch.bool and x.numel() > 0


def _save_gather(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, index, ctx.kernel = inputs
    ctx.length = x.shape[1]
    ctx.save_for_backward(index)


def _gather_back(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _scatter(grad, ctx.saved_tensors[0], ctx.length, ctx.kernel), None, None


def _save_scatter(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, index, _, ctx.kernel = inputs
    ctx.save_for_backward(index)


def _scatter_back(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _gather(grad, ctx.saved_tensors[0], ctx.kernel), None, None, None


_gather.register_autograd(_gather_back, setup_context=_save_gather)
_scatter.register_autograd(_scatter_back, setup_context=_save_scatter)
