"""Compiled kernels of the neuron and of packed spikes; each returns False where it does not serve."""

import math
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import DataError
from sparseflow.ops._library import channels_last, like, native, pointer
from sparseflow.ops.lif.reference import LIFParams

__all__ = ["config", "lif", "lif_pack", "or_pool2d", "pack_spikes", "serves", "unpack_spikes"]

_configs: dict[LIFParams, Any] = {}


def serves(*tensors: Tensor | None, dtype: torch.dtype = torch.float32) -> bool:
    """Tell whether the compiled kernels take these tensors: on the CPU, of the type that they read, not empty."""
    return native is not None and all(
        x is None or (x.device.type == "cpu" and x.dtype == dtype and x.numel() > 0) for x in tensors
    )


def config(params: LIFParams) -> Any:
    """Return the compiled form of the constants."""
    try:
        return _configs[params]
    except KeyError:
        kind, decay = params.kind, params.tau
        if kind == "lif" and math.frexp(decay)[0] == 0.5:
            # Dividing by a power of two and multiplying by its inverse round alike; a division takes six times longer.
            kind, decay = "plif", 1 / decay
        made = native.LIFConfig(kind, decay, params.v_threshold, params.v_reset, params.decay_input)
        return _configs.setdefault(params, made)


def lif(
    x: Tensor,
    v0: Tensor | None,
    params: LIFParams,
    steps: int,
    repeat: bool,
    spikes: Tensor,
    v: Tensor,
    isa: str = "auto",
) -> bool:
    """Fill `spikes` and `v`, both in the layout of `x`; arguments as in `sparseflow.ops.lif.lif`."""
    if not serves(x, v0):
        return False
    v0 = None if v0 is None else like(v0, x)
    n = v.numel()
    native.lif(
        x.data_ptr(),
        pointer(v0),
        spikes.data_ptr(),
        v.data_ptr(),
        steps,
        n,
        0 if repeat else n,
        config(params),
        torch.get_num_threads(),
        isa,
    )
    return True


def lif_pack(
    x: Tensor,
    v0: Tensor | None,
    params: LIFParams,
    steps: int,
    repeat: bool,
    words: Tensor,
    v: Tensor,
    isa: str = "auto",
) -> bool:
    """Fill `words`, and `v` in the layout of `x`; arguments as in `sparseflow.ops.lif.lif_pack`."""
    if not serves(x, v0):
        return False
    v0 = None if v0 is None else like(v0, x)
    native.lif_pack(
        x.data_ptr(),
        pointer(v0),
        words.data_ptr(),
        v.data_ptr(),
        steps,
        *v.shape,
        channels_last(x),
        repeat,
        config(params),
        torch.get_num_threads(),
        isa,
    )
    return True


def count_and_pack(x: Tensor, words: Tensor, isa: str = "auto") -> tuple[int, int] | None:
    """Fill `words` with the pattern of non-zeros.

    Args:
        x: `[M, C, H, W]` or `[M, K]`, contiguous or channels last.
        words: `[M, H, W, ceil(C/32)]`.
        isa: instruction set.

    Returns:
        How many elements are neither 0 nor 1, and how many are not 0; None if not served.
    """
    if not serves(x):
        return None
    m, c, *size = x.shape
    h, w = size or (1, 1)
    threads = torch.get_num_threads()
    last = channels_last(x) or h == w == 1
    return native.pack_spikes(x.data_ptr(), words.data_ptr(), m, c, h, w, last, threads, isa)  # type: ignore[no-any-return]


def pack_spikes(x: Tensor, words: Tensor, isa: str = "auto") -> bool:
    """Fill `words`; arguments as in `count_and_pack`.

    Raises:
        DataError: a value is neither 0 nor 1.
    """
    counts = count_and_pack(x, words, isa)
    if counts is not None and counts[0]:
        raise DataError(
            f"pack_spikes: {counts[0]} of {x.numel()} values are neither 0 nor 1; only spikes pack into bits"
        )
    return counts is not None


def unpack_spikes(words: Tensor, channels: int, x: Tensor, isa: str = "auto") -> bool:
    """Fill `x`, `[M, C, H, W]` with channels last in memory."""
    if not (serves(words, dtype=torch.int32) and serves(x)):
        return False
    m, h, w, _ = words.shape
    words = words.contiguous()
    native.unpack_spikes(words.data_ptr(), x.data_ptr(), m, channels, h, w, True, torch.get_num_threads(), isa)
    return True


def or_pool2d(words: Tensor, kernel: list[int], stride: list[int], padding: list[int], out: Tensor) -> bool:
    """Fill `out`, `[M, Ho, Wo, words]`."""
    if not serves(words, out, dtype=torch.int32):
        return False
    words = words.contiguous()
    native.or_pool2d(
        words.data_ptr(),
        out.data_ptr(),
        *words.shape,
        tuple(kernel),
        tuple(stride),
        tuple(padding),
        (1, 1),
        *out.shape[1:3],
        torch.get_num_threads(),
    )
    return True
