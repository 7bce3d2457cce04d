"""The kernel for few spikes under a 3x3 window of stride 1 and padding 1: reads each input once, and shares nothing."""

import ctypes
import math
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif.reference import WORD
from sparseflow.ops.spike_layer import _build
from sparseflow.ops.spike_layer._pack import COLUMNS
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["Call", "Params", "configure", "fits", "launch", "pack", "suits"]

NAME = "spike_event3"
EIGHT = 8
WORDS = 16  # of an input pixel, at most
TAPS = (3, 3)
MANY = 2400  # warps of a launch that give every multiprocessor a block of 24
TUNED = ("NB", "WARPS", "BLOCKS", "CAP", "UNROLL")


class Params(ctypes.Structure):
    """`Params` of spike_event3.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "weights", "constants", "v0", "v", "out", "add", "gate")),
        *((name, ctypes.c_int) for name in ("open", "height", "width", "count", "step")),
        *((name, ctypes.c_int) for name in ("pixels", "steps", "channels", "words_out", "rows", "slices")),
    )


def suits(shape: tuple[int, ...]) -> bool:
    """Tell whether weights of this shape are packed for the kernel.

    >>> suits((64, 64, 3, 3)), suits((64, 64, 1, 1)), suits((64, 513, 3, 3))
    (True, False, False)
    """
    return tuple(shape[2:]) == TAPS and -(-shape[1] // WORD) <= WORDS


def fits(source: Source) -> bool:
    """Tell whether a source moves as the kernel expects.

    >>> words = torch.zeros(1, 4, 4, 1, dtype=torch.int32)
    >>> fits(Source(words, 3, 1, (3, 3), (1, 1), (1, 1))), fits(Source(words, 3, 1, (3, 3), (2, 2), (1, 1)))
    (True, False)
    """
    return source[3:] == (TAPS, (1, 1), (1, 1), (1, 1))


def pack(exact: Tensor, halves: int) -> Tensor:
    """Return float16 `[slices, halves, 3 * channels, 192]` of scaled float64 weights `[64 * slices, channels, 3, 3]`.

    Row `ky * channels + channel` holds three taps of 64 output channels, as
    `[part, eighth, register, half]`: lane q of eight reads eighth q of the three
    parts. The kernel then transposes each register over the warp, and lane g of
    eight gets, in the low half, what eighth g // 2 holds in half g % 2, and in the
    high half the same of eighth 4 + g // 2. So it ends up with channels 8g to 8g + 7:
    in each register of parts 0 and 1 taps 0 and 1 of one of them, and in those of
    part 2 tap 2 of channels 0 and 2, 1 and 3, 4 and 6, 5 and 7.
    """
    cout, channels = exact.shape[:2]
    w = exact.reshape(cout // COLUMNS, EIGHT, EIGHT, channels, 3, 3).permute(0, 4, 3, 1, 2, 5)
    w = w.reshape(cout // COLUMNS, 3 * channels, 4, 2, EIGHT, 3)
    pairs = w[..., :2].reshape(*w.shape[:4], 2, 4, 2).permute(0, 1, 4, 6, 2, 5, 3).flatten(2)
    last = w[..., [0, 2, 1, 3, 4, 6, 5, 7], 2].reshape(*w.shape[:4], 4, 2).permute(0, 1, 5, 2, 4, 3).flatten(2)
    rows = torch.cat([pairs, last], dim=2)
    parts = [rows.half()]
    if halves == 2:
        parts.append((rows - parts[0].double()).half())
    return torch.stack(parts, dim=1).contiguous()


def configure(
    *,
    pixels: int,
    slices: int,
    steps: int,
    count: int,
    wide: int,
    halves: int,
    add: int,
    out_planes: int,
    reset: int,
    v0: bool,
    keep_v: bool,
    tune: tuple[tuple[str, int], ...] = (),
) -> tuple[tuple[str, int], ...]:
    """Return the kernel's defines.

    Args:
        pixels: N*H*W.
        slices: 64s of output channels.
        steps: T.
        count: words of an input pixel.
        wide: words that lie together in memory, at most 4.
        halves: 1, or 2 for weights in two halves.
        add: planes added to the spikes.
        out_planes: planes of the output.
        reset: 0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential.
        v0: the potential comes in.
        keep_v: the potential goes out.
        tune: defines that are not to be chosen.
    """
    # Measured on an H200; two halves need twice the sums in registers, and short lists lose less of them.
    exact = halves == 2
    eights = 1 if exact or count > 4 or (count <= 2 and steps > 8) else 2
    warps, blocks = (4, 4) if exact or count > 8 else (8, 3) if count > 4 else (4, 6)
    if eights == 1 and count <= 2 and not exact:
        warps, blocks = 8, 4
    elif 2 < count <= 8 and not exact and -(-pixels // (eights * EIGHT)) * slices >= MANY:
        warps, blocks = 24, 1
    chosen = {"NB": eights, "WARPS": warps, "BLOCKS": blocks, "UNROLL": 1 if exact else 2} | dict(tune)
    eights = chosen["NB"]
    chosen.setdefault("CAP", 32 if exact else 64 * eights)
    made = {
        **{name: chosen[name] for name in TUNED},
        "VW": wide,
        "SLOTS": -(-3 * (EIGHT * eights + 2) * (count // wide) // WORD),
        "HALVES": halves,
        "ADD": add,
        "OUTP": out_planes,
        "RESET": reset,
        "V0": int(v0),
        "KEEPV": int(keep_v),
    }
    return tuple(made.items())


@dataclass(frozen=True, slots=True)
class Call:
    """What a launch takes beside its defines.

    Args:
        addresses: of the input, the weights as of `pack`, the constants as of kernel "cuda", the first potential,
            the last one, the output, the counts added to the spikes, and the gate; 0 for none.
        open: what the gate must hold for the kernel to run.
        height: H.
        width: W.
        count: words of an input pixel.
        steps: T.
        pixels: N*H*W.
        channels: Cout.
    """

    addresses: tuple[int, ...]
    open: int
    height: int
    width: int
    count: int
    steps: int
    pixels: int
    channels: int


@lru_cache(maxsize=4096)
def _handle(device: int, made: tuple[tuple[str, int], ...]) -> ctypes.c_void_p:
    return _build.function(device, made, 0, NAME)


def launch(device: int, stream: int, made: tuple[tuple[str, int], ...], call: Call) -> None:
    """Launch the kernel on a stream of a device.

    Raises:
        UnsupportedError: it cannot be built or launched.
    """
    known = dict(made)
    slices = -(-call.channels // COLUMNS)
    params = Params(
        *call.addresses,
        call.open,
        call.height,
        call.width,
        call.count,
        call.pixels * call.count,
        call.pixels,
        call.steps,
        call.channels,
        -(-call.channels // WORD),
        3 * WORD * call.count,
        slices,
    )
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(params))
    grid = slices * math.ceil(call.pixels / (EIGHT * known["NB"] * known["WARPS"]))
    status = _build.driver().cuLaunchKernel(
        _handle(device, made), grid, 1, 1, WORD * known["WARPS"], 1, 1, 0, ctypes.c_void_p(stream), arguments, None
    )
    _build.check(status, "the launch of kernel 'event'")


def widen(weight: Tensor, slices: int) -> Tensor:
    """Return `[Cout, C, 3, 3]` weights with zeros up to whole slices and words."""
    return F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % WORD, 0, slices * COLUMNS - weight.shape[0]))
