"""Two currents added and fed to neurons in one pass: what a residual stream of floats does before it spikes."""

from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError
from sparseflow.ops._library import channels_last, dense_layout, run
from sparseflow.ops.lif import reference
from sparseflow.ops.lif.reference import WORD, LIFParams

__all__ = ["add_lif_pack"]


def add_lif_pack(x: Tensor, y: Tensor, params: LIFParams, *, steps: int) -> tuple[Tensor, Tensor]:
    """Add two currents, and let neurons that start at rest read the sum.

    z = x + y, rounded to their type; the spikes are those of `lif_pack` on z. No gradient.

    Args:
        x: `[T*N, C, H, W]` currents, time outermost, float16 or float32.
        y: currents of the same shape and type.
        params: constants of the neurons.
        steps: T.

    Returns:
        Words `[T*N, H, W, ceil(C/32)]`, and z, channels last if one of the two is.

    Raises:
        ConfigError: `steps` does not divide the first size, or the two are not alike.

    Cost: 7 flops an element (4 for "if"); reads both once and writes z.

    >>> words, z = add_lif_pack(torch.ones(1, 2, 1, 1), torch.ones(1, 2, 1, 1), LIFParams(kind="if"), steps=1)
    >>> words.item(), z.flatten().tolist()
    (3, [2.0, 2.0])
    """
    if steps < 1 or x.ndim != 4 or x.shape[0] % steps:
        raise ConfigError(f"add_lif_pack: steps is {steps}, x {tuple(x.shape)}; expected [steps*N, C, H, W]")
    if x.shape != y.shape or x.dtype != y.dtype:
        raise ConfigError(
            f"add_lif_pack: x is {x.dtype} {tuple(x.shape)}, y {y.dtype} {tuple(y.shape)}; make them alike"
        )
    if channels_last(y):
        x, y = y, x
    constants = (params.tau, params.v_threshold, params.v_reset, params.decay_input, params.kind == "lif")
    words, z = run(_add_lif_pack, x, y, steps, *constants)
    return words, z


@torch.library.custom_op("sparseflow::add_lif_pack", mutates_args=())
def _add_lif_pack(
    x: Tensor,
    y: Tensor,
    steps: int,
    tau: float,
    v_threshold: float,
    v_reset: float | None,
    decay_input: bool,
    leak: bool,
) -> tuple[Tensor, Tensor]:
    params = LIFParams(
        tau=tau, v_threshold=v_threshold, v_reset=v_reset, decay_input=decay_input, kind="lif" if leak else "if"
    )
    x = dense_layout(x)
    y = y.contiguous(memory_format=torch.channels_last if channels_last(x) else torch.contiguous_format)
    words, z = _empty(x)
    if x.is_cuda and x.dtype != torch.float64:
        from sparseflow.ops.lif import triton

        triton.add_lif_pack(x, y, params, steps, words, z)
        return words, z
    torch.add(x, y, out=z)
    words.copy_(reference.lif_pack(z.float(), params, steps=steps)[0])
    return words, z


@_add_lif_pack.register_fake
def _(x: Tensor, y: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _empty(dense_layout(x))


def _empty(x: Tensor) -> tuple[Tensor, Tensor]:
    m, c, h, w = x.shape
    return x.new_empty((m, h, w, -(-c // WORD)), dtype=torch.int32), torch.empty_like(x)
