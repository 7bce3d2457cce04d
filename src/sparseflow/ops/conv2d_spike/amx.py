"""Compiled tile kernel: int8 matrix tiles (Intel AMX) on spikes or counts, and weights of three bytes."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import ABSENT, channels_last, native, pointer
from sparseflow.ops.conv2d_spike import cpp

__all__ = [
    "conv_counts",
    "conv_lif",
    "conv_words",
    "machine_refusal",
    "pack",
    "pack_counts",
    "size_refusal",
    "weight_refusal",
]

# The middle bytes of a window, times 256, the low bytes and half of what they carry must sum up in 32 bits.
MOST_INPUTS = ((1 << 31) - (1 << 15)) // (128 * 257) - 1
# Weights are rounded to whole numbers, below LARGEST, of steps 2^e, which is exact on a grid of powers of two. Off it,
# the error of a sum relative to the norm of the weights in it is step / (sqrt(12) * rms): at most the noise of float32.
LARGEST = 127 * 65536
MOST_ROUNDING = 1e-6


@lru_cache(maxsize=1)
def machine_refusal() -> str | None:
    """Return why this machine or installation has no tiles, or None."""
    if native is None:
        return ABSENT
    return native.tiles_refusal()  # type: ignore[no-any-return]


def size_refusal(weight: tuple[int, ...], groups: int) -> str | None:
    """Return why the kernel rejects a weight's shape, or None."""
    if groups != 1:
        return f"tiles need all channels in one group; the layer has {groups}"
    if weight[1] * weight[2] * weight[3] > MOST_INPUTS:
        return f"a window of {weight[1] * weight[2] * weight[3]} inputs could overflow 32-bit sums"
    return None


def weight_refusal(weight: Tensor) -> str | None:
    """Return why the kernel rejects a weight's values, or None.

    >>> weight_refusal(torch.ones(2, 3, 1, 1))
    """
    if not bool(torch.isfinite(weight).all()):
        return "the weight holds NaN or infinities"
    flat = weight.flatten(1).double()
    largest, rms = flat.abs().amax(1), flat.square().mean(1).sqrt()
    step = torch.ldexp(torch.ones_like(largest), torch.frexp(largest / LARGEST).exponent)
    counts = flat / step[:, None]
    rounding = (counts != counts.round()).any(1) * step / (math.sqrt(12) * rms.clamp_min(1e-300))
    worst = int(rounding.argmax())
    if float(rounding[worst]) > MOST_ROUNDING:
        return (
            f"output channel {worst} has a weight {float(largest[worst] / rms[worst]):.0f} times the channel's root "
            f"mean square; three bytes a weight then round sums by {float(rounding[worst]):.1e}, more than float32 does"
        )
    return None


def refusal(weight: Tensor, groups: int) -> str | None:
    """Return why the kernel rejects a weight, or None."""
    return (
        cpp.refusal(weight) or machine_refusal() or size_refusal(tuple(weight.shape), groups) or weight_refusal(weight)
    )


def pack(weight: Tensor, groups: int) -> Tensor:
    """Return the tiles of a `[Cout, Cin, kh, kw]` float32 weight, as int8.

    Raises:
        UnsupportedError: no AMX here, groups, or weights too far apart.
    """
    reason = refusal(weight, groups)
    if reason is not None:
        raise UnsupportedError(f"pack_weight: kernel 'amx' cannot take this weight: {reason}")
    weight = weight.contiguous()
    tiles = weight.new_empty(native.tiles_size(*weight.shape), dtype=torch.int8)
    native.pack_tiles(weight.data_ptr(), tiles.data_ptr(), *weight.shape)
    return tiles


def check_tiles(tiles: Tensor, shape: cpp.Shape) -> None:
    """Refuse tiles of another geometry, or a machine that cannot multiply them."""
    _, weight, moves = shape
    reason = machine_refusal() or size_refusal(weight, moves.groups)
    if reason is not None:
        raise UnsupportedError(f"kernel 'amx' cannot run: {reason}")
    want = native.tiles_size(*weight)
    if tiles.shape != (want,) or tiles.dtype != torch.int8:
        raise ConfigError(
            f"tiles are {str(tiles.dtype).removeprefix('torch.')} {tuple(tiles.shape)}; a weight of shape {weight} "
            f"packs to int8 ({want},): pack it with pack_weight"
        )


def conv_words(words: Tensor, tiles: Tensor, bias: Tensor | None, out: Tensor, shape: cpp.Shape) -> None:
    """Fill `out`, `[M, Cout, Ho, Wo]` in either layout, from packed spikes."""
    check_tiles(tiles, shape)
    cpp.call_words(native.tile_conv_words, words, tiles, bias, out, shape)


def pack_counts(x: Tensor, inputs: int) -> tuple[Tensor | None, str | None]:
    """Pack small integers, as sums of spikes, to bytes.

    Args:
        x: `[M, C, H, W]` float32, contiguous or channels last.
        inputs: inputs of a window, C*kh*kw.

    Returns:
        Bytes `[M, H, W, C rounded up to 32]`, or None and why the tiles cannot take the input.
    """
    reason = machine_refusal()
    if reason is not None:
        return None, reason
    m, c, h, w = x.shape
    counts = x.new_empty((m, h, w, -(-c // 32) * 32), dtype=torch.uint8)
    last = channels_last(x) or h == w == 1
    odd, largest = native.pack_counts(x.data_ptr(), counts.data_ptr(), m, c, h, w, last, torch.get_num_threads())
    if odd:
        return None, f"{odd} of {x.numel()} inputs are not integers from 0 to 255"
    if inputs * largest > MOST_INPUTS:
        return None, f"a window of {inputs} inputs up to {largest} could overflow 32-bit sums"
    return counts, None


def conv_counts(counts: Tensor, tiles: Tensor, bias: Tensor | None, out: Tensor, shape: cpp.Shape) -> None:
    """Fill `out`, `[M, Cout, Ho, Wo]` in either layout, from `pack_counts`."""
    check_tiles(tiles, shape)
    tiles, bias = tiles.contiguous(), None if bias is None else bias.contiguous()
    native.tile_conv_counts(
        counts.data_ptr(),
        tiles.data_ptr(),
        pointer(bias),
        out.data_ptr(),
        cpp.geometry(shape),
        not out.is_contiguous(),
        torch.get_num_threads(),
    )


def conv_lif(words: Tensor, tiles: Tensor, *operands: Any) -> None:
    """As `cpp.conv_lif`, with tiles for rows."""
    check_tiles(tiles, operands[-1])
    cpp.call_lif(native.tile_conv_lif, words, tiles, *operands)
