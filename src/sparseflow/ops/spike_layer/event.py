"""The kernel for few spikes, built for sm_90a: reads the weights of inputs that fire alone."""

import ctypes
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.spike_layer import _build, event3
from sparseflow.ops.spike_layer._pack import COLUMNS, INPUTS, _constants
from sparseflow.ops.spike_layer._tensors import tensors
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["Params", "defines", "pack", "shared_bytes", "spike_layer", "units"]

NAME = "spike_event"
PIXELS = 16
SLICES = 8
BATCH = 5
ENTRY = 6  # bytes of a listed input
SHARED = 98304  # bytes that one block may have on every device of compute capability 8.0 or 9.0, with another beside it


class Params(ctypes.Structure):
    """`Params` of spike_event.cu."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("words", "weights", "constants", "v0", "v", "out", "add", "gate")),
        *((name, ctypes.c_int) for name in ("open", "in_height", "in_width", "count", "step")),
        *((name, ctypes.c_int) for name in ("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw")),
        *((name, ctypes.c_int) for name in ("pixels", "height", "width", "steps", "channels", "words_out")),
        *((name, ctypes.c_int) for name in ("units", "rows")),
    )


def units(shape: tuple[int, ...]) -> int:
    """Return how many units, 64 channels of one tap, a `[Cout, C, kh, kw]` weight has.

    >>> units((64, 65, 3, 3))
    18
    """
    return -(-shape[1] // INPUTS) * math.prod(shape[2:])


def pack(
    weights: list[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    identity: bool,
    planes: tuple[int, ...],
    precision: str,
) -> dict[str, Tensor]:
    """Return `weights`, float16 `[slices, halves, rows, 64]`, and `constants` as of kernel "cuda".

    Row `64 * unit + channel % 64` holds the weights from one input to 64 output
    channels, times a power of two; a one stands for `2^-24`, as in `_pack`.
    Weights of a 3x3 window come a second time, as `taps`, in the order of `event3`.

    Raises:
        UnsupportedError: more than one source, counts, an identity, no neuron, or too many channels.
    """
    if len(weights) != 1 or identity or planes != (1,) or params is None:
        raise UnsupportedError("pack_layer: kernel 'event' takes one source of spikes, no identity, and neurons")
    (weight,) = weights
    cout, c, kh, kw = weight.shape
    slices = -(-cout // COLUMNS)
    if slices > SLICES:
        raise UnsupportedError(f"pack_layer: kernel 'event' takes {SLICES * COLUMNS} output channels, not {cout}")
    if shared_bytes(slices, units(tuple(weight.shape))) > SHARED:
        raise UnsupportedError(f"pack_layer: kernel 'event' cannot list the inputs of a {tuple(weight.shape)} window")
    gain = 1 / params.tau if params.kind == "lif" and params.decay_input else 1.0
    scaled = weight.double() * gain
    largest = float(scaled.abs().max()) if scaled.numel() else 0.0
    exponent = 15 - math.frexp(largest)[1] if largest else 0
    padded = F.pad(scaled * 2.0**exponent, (0, 0, 0, 0, 0, -c % INPUTS, 0, slices * COLUMNS - cout))
    exact = padded.reshape(slices, COLUMNS, -1, kh * kw).permute(0, 3, 2, 1).reshape(slices, -1, COLUMNS)
    halves = [exact.half()]
    if precision == "exact":
        halves.append((exact - halves[0].double()).half())
    tensors = {
        "weights": torch.stack(halves, dim=1).contiguous(),
        "constants": _constants(cout, slices, bias, params, gain, 2.0 ** (exponent - 24), weight.device),
    }
    if event3.suits(tuple(weight.shape)):
        held = event3.holds(-(-c // WORD), len(halves))
        tensors["taps"] = event3.pack(event3.widen(scaled * 2.0**exponent, slices), len(halves), held)
    return tensors


def _groups(slices: int) -> int:
    return max(1, 4 // slices)


def _pairs(slices: int, count: int) -> int:
    """Return the pairs of units that one warp lists, in whole batches."""
    each = -(-count // (2 * slices))
    return each if each <= BATCH else -(-each // BATCH) * BATCH


def shared_bytes(slices: int, count: int) -> int:
    """Return the bytes of shared memory of one block: lists long enough for every input.

    >>> shared_bytes(1, 9)
    15616
    """
    return _groups(slices) * (slices * _pairs(slices, count) * 2 * INPUTS * ENTRY + 64)


def defines(
    *, slices: int, count: int, halves: int, vec: bool, add: int, out_planes: int, reset: int, v0: bool, keep_v: bool
) -> tuple[tuple[str, int], ...]:
    """Return the kernel's defines.

    Args:
        slices: 64s of output channels.
        count: units.
        halves: 1, or 2 for weights in two halves.
        vec: words can be read in aligned pairs.
        add: planes added to the spikes.
        out_planes: planes of the output.
        reset: 0 subtracts the threshold, 1 sets to 0, 2 sets to the reset potential.
        v0: the potential comes in.
        keep_v: the potential goes out.
    """
    groups, pairs = _groups(slices), _pairs(slices, count)
    return (
        ("WS", slices),
        ("GROUPS", groups),
        ("BLOCKS", max(1, (16 if halves == 1 else 12) // (slices * groups))),
        ("NU", pairs),
        ("BATCH", min(pairs, BATCH)),
        ("HALVES", halves),
        ("VEC", int(vec)),
        ("ADD", add),
        ("OUTP", out_planes),
        ("RESET", reset),
        ("V0", int(v0)),
        ("KEEPV", int(keep_v)),
    )


class _Plan(NamedTuple):
    grid: int
    threads: int
    shared: int
    handle: ctypes.c_void_p


@lru_cache(maxsize=4096)
def _plan(device: int, pixels: int, count: int, made: tuple[tuple[str, int], ...]) -> _Plan:
    known = dict(made)
    slices, groups = known["WS"], known["GROUPS"]
    shared = shared_bytes(slices, count)
    grid = math.ceil(pixels / (PIXELS * groups))
    return _Plan(grid, WORD * slices * groups, shared, _build.function(device, made, shared, NAME))


def spike_layer(
    sources: Sequence[Source],
    weights: Any,
    *,
    steps: int,
    identity: tuple[Tensor, int] | None = None,
    add: tuple[Tensor, int] | None = None,
    v0: Tensor | None = None,
    keep_v: bool = False,
    out: str = "words",
    out_planes: int = 1,
    into: Tensor | None = None,
    gate: tuple[Tensor, int] | None = None,
    tune: tuple[tuple[str, int], ...] | None = (),
) -> tuple[Tensor, Tensor | None]:
    """Run the layer; arguments as in `sparseflow.ops.spike_layer.spike_layer`, all checked there.

    Args:
        sources: the convolution source.
        weights: `LayerWeights` packed for this kernel.
        steps: T.
        identity: None.
        add: counts added to the spikes.
        v0: first potential.
        keep_v: return the last potential.
        out: "words".
        out_planes: planes of the output.
        into: contiguous int32 words `[T*N, Ho, Wo, out_planes*ceil(Cout/32)]` to write; made if None.
        gate: one int32 on the device and a number; unless they are equal when the kernel
            starts, it returns at once and writes nothing. So two kernels, given the same
            `into`, can share a captured graph that picks one by the density of the day.
        tune: defines of `event3` that are not to be chosen; None for the general kernel.

    Raises:
        UnsupportedError: it cannot run here; says why.
    """
    words = sources[0].words
    reason = _build.refusal(words.device)
    if reason is not None:
        raise UnsupportedError(f"spike_layer: kernel 'event' cannot run: {reason}")
    if words.numel() >= 2**31:
        raise UnsupportedError("spike_layer: kernel 'event' takes fewer than 2^31 words a source")
    source, channels, params = sources[0], weights.out_channels, weights.params
    words = words.contiguous()
    m, (ho, wo) = words.shape[0], source.output()
    held = tensors(
        words, (ho, wo), channels, steps=steps, add=add, v0=v0, keep_v=keep_v, out_planes=out_planes, into=into
    )
    if m == 0:
        return held.y, held.last
    packed, constants = weights.tensors["weights"], weights.tensors["constants"]
    slices, halves, rows, _ = packed.shape
    count, pixels = -(-source.channels // WORD), m // steps * ho * wo
    neuron: dict[str, Any] = {
        "add": 0 if add is None else add[1],
        "out_planes": out_planes,
        "reset": 0 if params.v_reset is None else 1 if params.v_reset == 0 else 2,
        "v0": v0 is not None,
        "keep_v": keep_v,
    }
    device = words.get_device()
    stream = torch.cuda.current_stream(words.device).cuda_stream
    given = (*held.addresses, 0 if gate is None else gate[0].data_ptr())
    value = 0 if gate is None else gate[1]
    if "taps" in weights.tensors and event3.fits(source) and tune is not None:
        taps = weights.tensors["taps"]
        wide = next(w for w in (4, 2, 1) if count % w == 0 and words.data_ptr() % (4 * w) == 0)
        made = event3.configure(
            pixels=pixels, channels=channels, steps=steps, count=count, wide=wide, halves=halves, **neuron,
            held=event3.holds(count, halves), processors=event3.processors(device), tune=tune,
        )  # fmt: skip
        addresses = (words.data_ptr(), taps.data_ptr(), constants.data_ptr(), *given)
        event3.launch(device, stream, made, event3.Call(addresses, value, ho, wo, count, steps, pixels, channels))
        return held.y, held.last
    made = defines(
        slices=slices,
        count=rows // INPUTS,
        halves=halves,
        vec=count % 2 == 0 and words.data_ptr() % 8 == 0,
        **neuron,
    )
    plan = _plan(device, pixels, rows // INPUTS, made)
    moves = (*source.kernel_size, *source.stride, *source.padding, *source.dilation)
    call = Params(
        *(words.data_ptr(), packed.data_ptr(), constants.data_ptr(), *given),
        *(value, words.shape[1], words.shape[2], count, words.numel() // steps),
        *moves,
        *(pixels, ho, wo, steps, channels, -(-channels // WORD), rows // INPUTS, rows),
    )
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(call))
    status = _build.driver().cuLaunchKernel(
        plan.handle, plan.grid, 1, 1, plan.threads, 1, 1, plan.shared, ctypes.c_void_p(stream), arguments, None
    )
    _build.check(status, "the launch of kernel 'event'")
    return held.y, held.last
