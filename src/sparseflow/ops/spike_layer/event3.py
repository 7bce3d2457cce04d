"""The kernel for few spikes under a 3x3 window of stride 1 and padding 1: reads each input once, and shares nothing."""

import ctypes
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.ops.lif.reference import WORD
from sparseflow.ops.spike_layer import _build, _launch
from sparseflow.ops.spike_layer._pack import COLUMNS
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["Call", "Params", "configure", "fits", "launch", "pack", "suits", "tiles"]

NAME = "spike_event3"
EIGHT = 8
WORDS = 16  # of an input pixel, at most
TAPS = (3, 3)
TAPS_Y = range(3)
MANY = 2400  # warps of a launch that give every multiprocessor a block of 24
SIXTEEN = 16
SHARED = 226 * 1024  # bytes of shared memory that a block may have for weights and lists
LISTS = 24 * 512 + 1024  # of these for lists, at least: 32 entries a warp
ENTRY = 8
LONGEST = 64  # spikes that a list in global memory holds
MEETING = 1  # blocks of a cluster, at most
ROUND = 24  # warps of a block that holds its weights, at most
TUNED = ("CLUSTER", "NB", "MT", "HELD", "TURN", "WARPS", "BLOCKS", "CAP", "UNROLL")


class Params(ctypes.Structure):
    """`Params` of spike_event3.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "weights", "constants", "v0", "v")),
        *((name, ctypes.c_void_p) for name in ("out", "add", "lists", "counts", "gate")),
        *((name, ctypes.c_int) for name in ("open", "height", "width", "count", "step")),
        *((name, ctypes.c_int) for name in ("pixels", "steps", "channels", "rows", "slices", "held")),
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


def row_bytes(held: int) -> int:
    """Return the bytes of a packed row for this many sixteens of channels of a held slice; 0 where nothing is held.

    >>> row_bytes(4), row_bytes(2), row_bytes(0)
    (416, 224, 384)
    """
    return 96 * held + 32 if held else 384


def tiles(count: int, halves: int) -> int:
    """Return how many sixteens of output channels blocks hold the weights of: 4, or 0 where those do not fit.

    Args:
        count: words of an input pixel.
        halves: 1, or 2 for weights in two halves.

    >>> tiles(4, 1), tiles(8, 1), tiles(2, 2), tiles(4, 2)
    (4, 0, 4, 0)
    """
    rows = len(TAPS_Y) * WORD * count * halves
    return 4 if rows * row_bytes(4) <= SHARED - LISTS else 0


def pack(exact: Tensor, halves: int, held: int) -> Tensor:
    """Return float16 rows of scaled float64 weights `[64 * n, channels, 3, 3]`.

    Row `ky * channels + channel` of a slice holds three taps of its output channels.
    The result is `[slices, halves, 3 * channels, row_bytes / 2]`.

    Held rows, of `16 * held` channels: lane g of eight reads 16 bytes, taps 0 and 1 of
    four of its channels, then, for 64 channels, as much again, and then tap 2 of its
    channels 0 and 2, 1 and 3, of 64 also 4 and 6, 5 and 7. Its channels are `2 * held * g`
    and those behind. 32 bytes of zeros follow.

    Otherwise, 64 channels as `[part, eighth, register, half]`: lane q of eight reads
    eighth q of the three parts. The kernel then transposes each register over the warp,
    and lane g of eight gets, in the low half, what eighth g // 2 holds in half g % 2, and
    in the high half the same of eighth 4 + g // 2. So it ends up with the same registers.
    """
    cout, channels = exact.shape[:2]
    own = 2 * (held or 4)
    rows = exact.reshape(cout // (EIGHT * own), EIGHT, own, channels, 3, 3).permute(0, 4, 3, 1, 2, 5)
    # [slice, row, lane g, channel, tap]
    rows = rows.reshape(cout // (EIGHT * own), 3 * channels, EIGHT, own, 3)
    pairs = rows[..., :2].reshape(*rows.shape[:3], own // 4, 4, 2)
    third = rows[..., [i for first in range(0, own, 4) for i in (first, first + 2, first + 1, first + 3)], 2]
    if held:
        ordered = torch.cat([pairs.transpose(2, 3).flatten(2), third.flatten(2)], dim=2)
        ordered = F.pad(ordered, (0, row_bytes(held) // 2 - ordered.shape[2]))
    else:
        registers = torch.stack([pairs[..., 0, :, :], pairs[..., 1, :, :], third.reshape(*rows.shape[:3], 4, 2)], dim=2)
        # A register of lane g comes, as halves, from eighths g // 2 and 4 + g // 2.
        ordered = registers.reshape(*rows.shape[:2], 3, 4, 2, 4, 2).permute(0, 1, 2, 6, 3, 5, 4).flatten(2)
    parts = [ordered.half()]
    if halves == 2:
        parts.append((ordered - parts[0].double()).half())
    return torch.stack(parts, dim=1).contiguous()


def held_rows(known: Mapping[str, int], count: int) -> int:
    """Return how many rows of weights a block with these defines holds, of all halves.

    >>> held_rows({"HELD": 1, "TURN": 0, "MT": 4, "HALVES": 1}, 4)
    384
    """
    rows = len(TAPS_Y) * WORD * count * known["HALVES"]
    return 0 if not known["HELD"] else rows if known["HELD"] == 1 else min(rows, (SHARED - LISTS) // row_bytes(0))


def shared(known: Mapping[str, int], count: int) -> int:
    """Return the bytes of weights that a block with these defines holds.

    >>> shared({"HELD": 1, "TURN": 0, "MT": 4, "HALVES": 1}, 4)
    159744
    """
    return held_rows(known, count) * row_bytes(0 if known["TURN"] else known["MT"])


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
    held: int,
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
        held: what the weights are packed for, as of `tiles`.
        processors: multiprocessors of the device.
        tune: defines that are not to be chosen.
    """
    exact, slices = halves == 2, -(-channels // (SIXTEEN * (held or 4)))
    holds = dict(tune).get("HELD", int(held > 0))
    # Two halves need twice the sums in registers, and short lists lose less of them.
    if holds:
        eights = 1 if exact and held != 2 else 2
        groups = -(-pixels // (EIGHT * dict(tune).get("NB", eights)))
        # A block for each multiprocessor, and groups of pixels shared out evenly.
        each = -(-groups // max(1, processors // slices))
        most = SIXTEEN if exact else ROUND
        warps, blocks = -(-each // -(-each // most)), 1
    else:
        # Measured on an H200.
        eights = 1 if exact or count > 4 or (count <= 2 and steps > 8) else 2
        warps, blocks = (4, 4) if exact or count > 8 else (8, 3) if count > 4 else (4, 6)
        if eights == 1 and count <= 2 and not exact:
            warps, blocks = 8, 4
        elif 2 < count <= 8 and not exact and -(-pixels // (eights * EIGHT)) * slices >= MANY:
            warps, blocks = 24, 1
    cluster = math.gcd(slices, MEETING) if holds else 1
    chosen = {"CLUSTER": cluster, "NB": eights, "MT": held or 4, "HELD": holds, "TURN": int(not held)}
    chosen = chosen | {"WARPS": warps, "BLOCKS": blocks}
    chosen = chosen | {"UNROLL": 1 if exact else 2} | dict(tune)
    eights = chosen["NB"]
    cap = 32 if exact and chosen["CLUSTER"] == 1 else 64 * eights
    room = (SHARED - shared({"HALVES": halves, **chosen}, count)) // (ENTRY * chosen["WARPS"]) // 4 * 4
    chosen.setdefault("CAP", min(cap, room) if holds else cap)
    made = {
        **{name: chosen[name] for name in TUNED},
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
            the last one, the output, the counts added to the spikes, room as of `scratch` for lists and their lengths,
            and the gate; 0 for none.
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


def groups(known: Mapping[str, int], pixels: int) -> int:
    """Return how many groups of pixels warps with these defines share.

    >>> groups({"NB": 2}, 33)
    3
    """
    return -(-pixels // (EIGHT * known["NB"]))


def scratch(known: Mapping[str, int], pixels: int, channels: int, steps: int) -> tuple[int, int]:
    """Return the int32 numbers of the lists that the blocks of clusters share, and of their lengths.

    >>> known = {"NB": 2, "MT": 4, "CLUSTER": 2}
    >>> scratch(known, 33, 128, 4), scratch(known | {"CLUSTER": 1}, 33, 128, 4)
    ((1536, 12), (0, 0))
    """
    if known["CLUSTER"] == 1:
        return 0, 0
    lists = groups(known, pixels) * steps * (-(-channels // (SIXTEEN * known["MT"])) // known["CLUSTER"])
    return 2 * LONGEST * lists, lists


def launch(device: int, stream: int, made: tuple[tuple[str, int], ...], call: Call) -> None:
    """Launch the kernel on a stream of a device.

    Raises:
        UnsupportedError: it cannot be built or launched.
    """
    known = dict(made)
    slices, rows = -(-call.channels // (SIXTEEN * known["MT"])), len(TAPS_Y) * WORD * call.count
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
        rows,
        slices,
        held_rows(known, call.count),
    )
    blocks = -(-groups(known, call.pixels) // known["WARPS"])
    if known["HELD"]:
        blocks = min(blocks, max(1, processors(device) * known["BLOCKS"] // slices))
    held = shared(known, call.count)
    _launch.launch(
        _handle(device, made, held), params, "event", grid=slices * blocks, threads=WORD * known["WARPS"], shared=held,
        stream=stream, cluster=known["CLUSTER"],
    )  # fmt: skip


def widen(weight: Tensor, slices: int) -> Tensor:
    """Return `[Cout, C, 3, 3]` weights with zeros up to whole slices and words."""
    return F.pad(weight, (0, 0, 0, 0, 0, -weight.shape[1] % WORD, 0, slices * COLUMNS - weight.shape[0]))
