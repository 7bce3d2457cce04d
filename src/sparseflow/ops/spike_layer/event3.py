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

__all__ = ["Call", "Params", "configure", "fits", "holds", "launch", "pack", "suits"]

NAME = "spike_event3"
EIGHT = 8
WORDS = 16  # of an input pixel, at most
TAPS = (3, 3)
MANY = 2400  # warps of a launch that give every multiprocessor a block of 24
SHARED = 226 * 1024  # bytes of shared memory that a block may have for weights and lists
ENTRY = 8
HELD_WARPS = 24  # of a block that holds its weights, at most; 16 with two halves
LEAST = 64  # spikes of a list, at least
FEW = 12  # spikes of a list that is made at once, at most
ROW, HELD_ROW = 384, 416  # bytes; held ones are padded so that four rows meet in few banks
TUNED = ("NB", "HELD", "WARPS", "BLOCKS", "CAP", "UNROLL", "FEW", "CALM", "AHEAD")


class Params(ctypes.Structure):
    """`Params` of spike_event3.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "weights", "constants", "v0", "v")),
        *((name, ctypes.c_void_p) for name in ("out", "add", "gate")),
        *((name, ctypes.c_int) for name in ("open", "height", "width", "step")),
        *((name, ctypes.c_int) for name in ("pixels", "steps", "channels", "rows")),
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


def holds(count: int, halves: int) -> bool:
    """Tell whether a block can hold all weights of 64 output channels, and thus how they are packed.

    Args:
        count: words of an input pixel.
        halves: 1, or 2 for weights in two halves.

    >>> holds(4, 1), holds(8, 1), holds(2, 2), holds(4, 2)
    (True, False, True, False)
    """
    return held_bytes(count, halves) + ENTRY * LEAST * HELD_WARPS <= SHARED


def held_bytes(count: int, halves: int) -> int:
    """Return the bytes of all weights of 64 output channels as a block holds them.

    >>> held_bytes(4, 1)
    159744
    """
    return TAPS[0] * WORD * count * halves * HELD_ROW


def pack(exact: Tensor, halves: int, held: bool) -> Tensor:
    """Return float16 rows of scaled float64 weights `[64 * slices, channels, 3, 3]`.

    Row `ky * channels + channel` holds three taps of 64 output channels; the result is
    `[slices, halves, 3 * channels, n]`. Lane g of eight multiplies channels 8g to 8g + 7.

    Held, n = 208: lane g reads 16 bytes, taps 0 and 1 of four of its channels, 128 bytes on
    those of the other four, and then tap 2 of its channels 0 and 2, 1 and 3, 4 and 6, 5 and 7.

    Otherwise, n = 192, as `[part, eighth, register, half]`: lane q of eight reads eighth q
    of the three parts. The kernel then transposes each register over the warp, and lane g
    gets, in the low half, what eighth g // 2 holds in half g % 2, and in the high half the
    same of eighth 4 + g // 2. So it ends up with taps 0 and 1 of one of its channels in each
    register of parts 0 and 1, and in those of part 2 with tap 2 of its channels 0 and 2,
    1 and 3, 4 and 6, 5 and 7.
    """
    cout, channels = exact.shape[:2]
    slices = cout // COLUMNS
    rows = exact.reshape(slices, EIGHT, EIGHT, channels, 3, 3).permute(0, 4, 3, 1, 2, 5)
    # [slice, row, lane g, its channel, tap]
    rows = rows.reshape(slices, 3 * channels, EIGHT, EIGHT, 3)
    pairs = rows[..., :2].reshape(*rows.shape[:3], 2, 4, 2)
    third = rows[..., [0, 2, 1, 3, 4, 6, 5, 7], 2].reshape(*rows.shape[:3], 4, 2)
    registers = torch.stack([pairs[..., 0, :, :], pairs[..., 1, :, :], third], dim=2)
    if held:
        ordered = F.pad(registers.flatten(2), (0, (HELD_ROW - ROW) // 2))
    else:
        # A register of lane g comes, as halves, from eighths g // 2 and 4 + g // 2.
        ordered = registers.reshape(*rows.shape[:2], 3, 4, 2, 4, 2).permute(0, 1, 2, 6, 3, 5, 4).flatten(2)
    parts = [ordered.half()]
    if halves == 2:
        parts.append((ordered - parts[0].double()).half())
    return torch.stack(parts, dim=1).contiguous()


def configure(
    *,
    pixels: int,
    channels: int,
    steps: int,
    count: int,
    wide: int,
    halves: int,
    add: int,
    out_planes: int,
    reset: int,
    v0: bool,
    keep_v: bool,
    held: bool,
    processors: int = 132,
    tune: tuple[tuple[str, int], ...] = (),
) -> tuple[tuple[str, int], ...]:
    """Return the kernel's defines.

    Args:
        pixels: N*H*W.
        channels: output channels.
        steps: T.
        count: words of an input pixel.
        wide: words that lie together in memory, at most 4.
        halves: 1, or 2 for weights in two halves.
        add: planes added to the spikes.
        out_planes: planes of the output.
        reset: 0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential.
        v0: the potential comes in.
        keep_v: the potential goes out.
        held: how the weights are packed.
        processors: multiprocessors of the device.
        tune: defines that are not to be chosen.
    """
    exact, slices = halves == 2, -(-channels // COLUMNS)
    # Two halves need twice the sums in registers, and short lists lose less of them.
    if held:
        eights, blocks = 1 if exact else 2, 1
        # A block for each multiprocessor, and groups of pixels shared out evenly.
        each = -(-pixels // (EIGHT * dict(tune).get("NB", eights))) / max(1, processors // slices)
        rounds = math.ceil(each / (HELD_WARPS * 2 // 3 if exact else HELD_WARPS))
        warps = math.ceil(each / rounds)
    else:
        # Measured on an H200.
        eights = 1 if exact or count > 4 or (count <= 2 and steps > 8) else 2
        warps, blocks = (4, 4) if exact or count > 8 else (8, 3) if count > 4 else (4, 6)
        if eights == 1 and count <= 2 and not exact:
            warps, blocks = 8, 4
        elif 2 < count <= 8 and not exact and -(-pixels // (eights * EIGHT)) * slices >= MANY:
            warps, blocks = 24, 1
    # Measured on an H200, as is what follows.
    four = count <= 2 if held else count > 8 or (count > 4 and steps > 8)
    chosen = {
        "NB": eights,
        "HELD": int(held),
        "WARPS": warps,
        "BLOCKS": blocks,
        "UNROLL": 1 if exact else 4 if four else 2,
        "FEW": FEW if count > 2 and held and not exact else 0,
        "CALM": int(not exact),
        "AHEAD": int(not exact),
    }
    chosen = chosen | dict(tune)
    eights = chosen["NB"]
    cap = 32 if exact else 64 + 32 * eights
    if held:
        cap = min(cap, (SHARED - held_bytes(count, halves)) // (ENTRY * chosen["WARPS"]) // 4 * 4)
    chosen.setdefault("CAP", cap)
    made = {
        **{name: chosen[name] for name in TUNED},
        "WHOLE": int(pixels % (EIGHT * eights) == 0 and channels % COLUMNS == 0),
        "COUNT": count,
        "VW": wide,
        "SLOTS": -(-3 * (EIGHT * eights + 2) * (count // wide) // WORD),
        "HALVES": halves,
        "ADD": add,
        "OUTP": out_planes,
        "OUTW": -(-channels // WORD),
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
def _handle(device: int, made: tuple[tuple[str, int], ...], held: int) -> ctypes.c_void_p:
    return _build.function(device, made, held, NAME)


@lru_cache(maxsize=64)
def processors(device: int) -> int:
    """Return the multiprocessors of a device."""
    return torch.cuda.get_device_properties(device).multi_processor_count


def launch(device: int, stream: int, made: tuple[tuple[str, int], ...], call: Call) -> None:
    """Launch the kernel on a stream of a device.

    Raises:
        UnsupportedError: it cannot be built or launched.
    """
    known = dict(made)
    slices, rows = -(-call.channels // COLUMNS), TAPS[0] * WORD * call.count
    params = Params(
        *call.addresses,
        call.open,
        call.height,
        call.width,
        call.pixels * call.count,
        call.pixels,
        call.steps,
        call.channels,
        rows,
    )
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(params))
    blocks, held = math.ceil(call.pixels / (EIGHT * known["NB"] * known["WARPS"])), 0
    if known["HELD"]:
        blocks = min(blocks, max(1, processors(device) * known["BLOCKS"] // slices))
        held = held_bytes(call.count, known["HALVES"])
    status = _build.driver().cuLaunchKernel(
        *(_handle(device, made, held), slices * blocks, 1, 1, WORD * known["WARPS"], 1, 1, held),
        *(ctypes.c_void_p(stream), arguments, None),
    )
    _build.check(status, "the launch of kernel 'event'")


def widen(weight: Tensor, slices: int) -> Tensor:
    """Return `[Cout, C, 3, 3]` weights with zeros up to whole slices and words."""
    return F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % WORD, 0, slices * COLUMNS - weight.shape[0]))
