"""The kernel for few pixels, built for sm_90a: clusters of blocks divide the inputs of a layer."""

import ctypes
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.spike_layer import _build
from sparseflow.ops.spike_layer._pack import COLUMNS, _constants
from sparseflow.ops.spike_layer._tensors import tensors
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["Config", "Params", "configure", "pack", "spike_layer"]

NAME = "spike_small"
PIXELS = 4096
STEPS = 32
TILES = 7
SHARED = 232448  # bytes that one block may have
FLOATS = {"float16": 1, "float32": 2}
CLUSTER, SERIAL = 4, 6  # ids of launch attributes


class CSource(ctypes.Structure):
    """`Source` of spike_small.cu."""

    _fields_ = (
        ("words", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("height", "width", "count", "pitch", "planes")),
        *((name, ctypes.c_int) for name in ("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw")),
        *((name, ctypes.c_int) for name in ("step", "units")),
    )


class Params(ctypes.Structure):
    """`Params` of spike_small.cu."""

    _fields_ = (
        ("source", CSource * 2),
        *((name, ctypes.c_void_p) for name in ("weights", "constants", "v0", "v", "out", "add", "same")),
        *((name, ctypes.c_int) for name in ("units", "words_in", "pixels")),
        *((name, ctypes.c_int) for name in ("channels", "words")),
        *((name, ctypes.c_int) for name in ("to_units", "to_words", "to_extra", "to_sums", "to_inbox", "to_fixed")),
    )


class _Attribute(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int), ("pad", ctypes.c_int), ("value", ctypes.c_uint * 16))


class _Launch(ctypes.Structure):
    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    )


def pack(
    weights: list[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    identity: bool,
    planes: tuple[int, ...],
    precision: str,
) -> dict[str, Tensor]:
    """Return `weights`, float16 `[columns, words, halves, 32, 8]`, and `constants` as of kernel "cuda".

    Columns are eights of output channels, words 32 input channels of one tap, of
    all sources. Lane `4n + c` holds of output channel n the inputs `4c + j + 16e`
    at place `2j + e`, times `2^-j`: the kernel reads bit `4c + j` of a word, left
    at place j of a half, as `2^(j - 24)`, or in two halves as `2^(j - 9)`. The
    constant at place 5 is what one count of the identity adds.

    Raises:
        UnsupportedError: more than two sources, too many planes, or another precision.
    """
    if len(weights) > 2 or max(planes) > 4 or precision not in ("fp16", "exact"):
        raise UnsupportedError(
            f"pack_layer: kernel 'small' takes two sources, 4 planes, and fp16 or exact; "
            f"not {len(weights)}, {max(planes)} and {precision}"
        )
    cout, device = weights[0].shape[0], weights[0].device
    gain = 1 / params.tau if params is not None and params.kind == "lif" and params.decay_input else 1.0
    scaled = [w.double() * gain for w in weights]
    largest = max(float(w.abs().max()) if w.numel() else 0.0 for w in scaled)
    exponent = 15 - math.frexp(largest)[1] if largest else 0
    exact = torch.cat([_fragments(w * 2.0**exponent) for w in scaled], dim=1)
    halves = [exact.half()]
    if precision == "exact":
        halves.append((exact - halves[0].double()).half())
    scale = 2.0 ** (exponent - (9 if precision == "exact" else 24))
    constants = _constants(cout, -(-cout // COLUMNS), bias, params, gain, scale, device)
    constants[5] = gain * scale
    return {"weights": torch.stack(halves, dim=2).contiguous(), "constants": constants}


def _fragments(w: Tensor) -> Tensor:
    """Return `[columns, words, 32, 8]` of a weight `[Cout, C, kh, kw]`."""
    cout, c, kh, kw = w.shape
    w = F.pad(w, (0, 0, 0, 0, 0, -c % WORD, 0, -cout % WORD))
    # Output channel = 8*column + n; input channel = 32*word + 16*e + 4*lane + j.
    w = w.reshape(-1, 8, (c + WORD - 1) // WORD, 2, 4, 4, kh * kw)
    place = torch.arange(4, device=w.device).reshape(4, 1)
    w = w * 2.0 ** -place.double()
    w = w.permute(0, 6, 2, 1, 4, 5, 3)
    return w.reshape(w.shape[0], -1, WORD, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one call is cut.

    Args:
        rows: tiles of 16 rows of a block; a row is a pixel in one time step.
        pixels: pixels of a block.
        columns: output channels of a block.
        across: warps of a block along the output channels.
        along: warps of a block along the inputs.
        cluster: blocks along the inputs.
        depth: words of inputs whose weights are under way.
        blocks: blocks that a multiprocessor should hold.
        grid: blocks.
    """

    rows: int
    pixels: int
    columns: int
    across: int
    along: int
    cluster: int
    depth: int
    blocks: int
    grid: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return WORD * self.across * self.along


def configure(
    *,
    pixels: int,
    steps: int,
    channels: int,
    words: int,
    units: int,
    halves: int,
    cores: int,
    planes: int = 1,
    extra: int = 0,
    rows: int | None = None,
    columns: int | None = None,
    cluster: int | None = None,
    each: int = 2,
    warps: int | None = None,
    depth: int | None = None,
    blocks: int | None = None,
) -> Config:
    """Choose the cut of a call whose slowest multiprocessor should be done first.

    Args:
        pixels: N*Ho*Wo.
        steps: T.
        channels: Cout.
        words: 32s of input channels of one tap, of all sources.
        units: the same in words that are read at once.
        halves: 1, or 2 for weights in two halves.
        cores: multiprocessors.
        planes: bit planes of the widest source.
        extra: bit planes of the identity and of what is added.
        rows: most tiles of 16 rows of a block; chosen if None.
        columns: output channels of a block, 32, 64 or 128; chosen if None.
        cluster: blocks along the inputs, 1, 2, 4 or 8; chosen if None.
        each: eights of output channels of a warp, 2 or 4.
        warps: warps of a block, at most; 8 or 16 if None.
        depth: words of inputs whose weights are under way; chosen if None.
        blocks: blocks that a multiprocessor should hold; chosen if None.

    Raises:
        UnsupportedError: no cut has the rows for the steps and fits shared memory.
    """
    padded, found = -(-channels // WORD) * WORD, []
    tall = (rows,) if rows else range(1, TILES + 1)
    wide = [n for n in ((columns,) if columns else (32, 64, 128)) if padded % n == 0]
    shared = [n for n in ((cluster,) if cluster else (1, 2, 4, 8)) if n <= units]
    for most, bn, cl, busy in itertools.product(tall, wide, shared, (warps,) if warps else (8, 16)):
        tile = min(pixels, 16 * most // steps)
        if tile == 0:
            continue
        tile = -(-pixels // -(-pixels // tile))
        high, across = -(-steps * tile // 16), bn // (8 * each)
        along = max(1, min(busy // across, -(-words // cl)))
        free = max(1, (82 - 4 * each * high) // (4 * each * halves))
        made = Config(
            rows=high,
            pixels=tile,
            columns=bn,
            across=across,
            along=along,
            cluster=cl,
            depth=depth or min(free, 6, -(-words // (cl * along))),
            blocks=blocks or max(1, 16 // (across * along * halves)),
            grid=-(-pixels // tile) * (padded // bn) * cl,
        )
        if _layout(made, -(-units // cl), words // units, 2, planes, steps, extra)[1] <= SHARED:
            found.append((_clocks(made, words, halves, cores), made))
    if not found:
        raise UnsupportedError(f"spike_layer: kernel 'small' cannot cut {steps} steps and {channels} channels so")
    return min(found, key=lambda x: x[0])[1]


def _clocks(cut: Config, words: int, halves: int, cores: int) -> float:
    """Return about how many clocks the slowest multiprocessor is busy; fitted to 700 cuts of 30 layers on an H200."""
    each, warps, rows = -(-words // cut.cluster), cut.across * cut.along, 16 * cut.rows
    products = rows * cut.columns * each * halves / (12 if warps > 8 else 11.5)
    weights = cut.columns * each * halves * 3.25
    sums = cut.along * rows * cut.columns / 14
    ends = -(-cut.pixels * cut.columns // (WORD * cut.cluster * warps)) * 170
    start = 560 + rows * each / warps / 5
    meeting = 480 + rows * cut.columns / 21 if cut.cluster > 1 else 0
    # Blocks of a large cluster crowd, two on a multiprocessor, and may not all find room at once.
    large = cut.cluster > 2
    share = max(-(-cut.grid // cores), 2 if large else 1)
    waves = -(-cut.grid // (cores * min(cut.blocks, 2)))
    late = 5400 if large and cut.grid > 0.6 * cores else 0
    work = max(products, weights) + min(products, weights) / 7 + sums + ends
    return share * work + waves * (start + meeting) + (waves - 1) * 1500 + late


@dataclass(frozen=True, slots=True)
class _Plan:
    config: Config
    template: Params
    device: int
    shared: int
    defines: tuple[tuple[str, int], ...]
    handle: ctypes.c_void_p


def _c_source(source: Source, step: int, width: int) -> CSource:
    _, h, w, pitch = source.words.shape
    count = -(-source.channels // WORD)
    moves = (*source.kernel_size, *source.stride, *source.padding, *source.dilation)
    units = math.prod(source.kernel_size) * count // width
    return CSource(0, h, w, count, pitch, source.planes, *moves, step, units)


@lru_cache(maxsize=4096)
def _plan(
    device: int,
    shapes: tuple[Any, ...],
    halves: int,
    steps: int,
    channels: int,
    width: int,
    kind: tuple[tuple[str, int], ...],
    tune: tuple[tuple[str, Any], ...],
) -> _Plan:
    sources = [Source(torch.empty(shape, device="meta"), *rest) for shape, rest in shapes]
    if any(s.words.numel() >= 2**31 for s in sources):
        raise UnsupportedError("spike_layer: kernel 'small' takes fewer than 2^31 words a source")
    m, size = sources[0].words.shape[0], sources[0].output()
    pixels = m // steps * size[0] * size[1]
    each = [_c_source(s, s.words.numel() // steps, width) for s in sources]
    units = sum(s.units for s in each)
    known, planes = dict(kind), max(s.planes for s in sources)
    cut = configure(
        pixels=pixels,
        steps=steps,
        channels=channels,
        words=units * width,
        units=units,
        halves=halves,
        cores=torch.cuda.get_device_properties(device).multi_processor_count,
        planes=planes,
        extra=known["ADD"] + known["SAME"],
        **dict(tune),
    )
    defines = {
        "MT": cut.rows,
        "NT": cut.columns // (8 * cut.across),
        "WN": cut.across,
        "WK": cut.along,
        "CL": cut.cluster,
        "DEPTH": cut.depth,
        "BLOCKS": cut.blocks,
        "VW": width,
        "SOURCES": len(sources),
        "COUNT0": each[0].count,
        "KW0": each[0].kw,
        "COUNT1": each[-1].count,
        "KW1": each[-1].kw,
        "TILE": cut.pixels,
        "ACROSS": -(-channels // WORD) * WORD // cut.columns,
        "AREA": size[0] * size[1],
        "WIDTH": size[1],
        "PLANES": planes,
        "HALVES": halves,
        "STEPS": steps,
        **known,
    }
    extra = known["ADD"] + known["SAME"]
    places, shared = _layout(cut, -(-units // cut.cluster), width, len(sources), planes, steps, extra)
    template = Params(
        (CSource * 2)(*each),
        *[0] * 7,
        *(units, units * width, pixels),
        *(channels, -(-channels // WORD)),
        *places,
    )
    made = tuple(defines.items())
    return _Plan(cut, template, device, shared, made, _build.function(device, made, shared, NAME))


def _layout(
    cut: Config, units: int, width: int, sources: int, planes: int, steps: int, extra: int
) -> tuple[list[int], int]:
    """Return where units, words, extra, sums, inbox and constants begin in shared memory, and the bytes of all."""
    rows, wide = 16 * cut.rows, cut.columns // WORD
    own = -(-cut.pixels * wide // cut.cluster)
    sizes = (
        16 * sources * rows,
        16 * units,
        4 * planes * units * width * rows,
        4 * steps * cut.pixels * extra * wide,
        4 * cut.along * rows * (cut.columns + 8),
        4 * own * cut.cluster * steps * WORD if cut.cluster > 1 else 0,
        4 * (8 + cut.columns),
    )
    ends = [0]
    for n in sizes:
        ends.append(ends[-1] + -(-n // 16) * 16)
    return ends[1:-1], ends[-1]


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
    tune: tuple[tuple[str, Any], ...] = (),
) -> tuple[Tensor, Tensor | None]:
    """Run the layer; arguments as in `sparseflow.ops.spike_layer.spike_layer`, all checked there.

    Args:
        sources: convolution sources.
        weights: `LayerWeights` packed for this kernel.
        steps: T.
        identity: counts added to the currents.
        add: counts added to the spikes.
        v0: first potential.
        keep_v: return the last potential.
        out: "words", "float16" or "float32".
        out_planes: planes of the output.
        tune: arguments of `configure` that are not to be chosen.

    Raises:
        UnsupportedError: it cannot run here; says why.
    """
    words = sources[0].words
    reason = _build.refusal(words.device)
    if reason is not None:
        raise UnsupportedError(f"spike_layer: kernel 'small' cannot run: {reason}")
    channels, params = weights.out_channels, weights.params
    m, (ho, wo) = words.shape[0], sources[0].output()
    n = m // steps
    if n * ho * wo > PIXELS or steps > STEPS:
        raise UnsupportedError(
            f"spike_layer: kernel 'small' takes {PIXELS} pixels and {STEPS} steps, not {n * ho * wo} and {steps}"
        )
    every = [s._replace(words=s.words.contiguous()) for s in sources]
    same = None if identity is None else identity[0].contiguous()
    made = tensors(
        words, (ho, wo), channels, steps=steps, add=add, v0=v0, keep_v=keep_v, out=out, out_planes=out_planes
    )
    if m == 0:
        return made.result, made.last
    packed, constants = weights.tensors["weights"], weights.tensors["constants"]
    kind = {
        "OUT": FLOATS.get(out, 0),
        "SAME": 0 if identity is None else identity[1],
        "ADD": 0 if add is None else add[1],
        "OUTP": out_planes,
        "LEAK": int(params is not None and params.kind == "lif"),
        "RESET": 0 if params is None or params.v_reset is None else 1 if params.v_reset == 0 else 2,
        "V0": int(v0 is not None),
        "KEEPV": int(keep_v),
    }
    plan = _plan(
        words.get_device(),
        tuple((tuple(s.words.shape), s[1:]) for s in every),
        packed.shape[2],
        steps,
        channels,
        _width(every),
        tuple(kind.items()),
        tune,
    )
    call = Params.from_buffer_copy(plan.template)
    for i, s in enumerate(every):
        call.source[i].words = s.words.data_ptr()
    call.weights, call.constants = packed.data_ptr(), constants.data_ptr()
    call.same = 0 if same is None else same.data_ptr()
    call.v0, call.v, call.out, call.add = made.addresses
    _launch(plan, call)
    return made.result, made.last


def _width(sources: Sequence[Source]) -> int:
    """Return how many words of every source can be read at once."""
    for width in (4, 2):
        if all(-(-s.channels // WORD) % width == 0 and s.words.data_ptr() % (4 * width) == 0 for s in sources):
            return width
    return 1


def _launch(plan: _Plan, call: Params) -> None:
    """Launch the kernel; in a graph it may start before the one in front of it ends, and waits where it needs to.

    Outside of a graph that one may be what wrote the weights, which are read before the wait.
    """
    cut = plan.config
    made = []
    if cut.cluster > 1:
        made.append(_Attribute(CLUSTER, 0, (ctypes.c_uint * 16)(cut.cluster, 1, 1)))
    if torch.cuda.is_current_stream_capturing():
        made.append(_Attribute(SERIAL, 0, (ctypes.c_uint * 16)(1)))
    attributes = (_Attribute * max(1, len(made)))(*made)
    launch = _Launch(
        (ctypes.c_uint * 3)(cut.grid, 1, 1),
        (ctypes.c_uint * 3)(cut.threads, 1, 1),
        plan.shared,
        torch.cuda.current_stream(plan.device).cuda_stream,
        attributes,
        len(made),
    )
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(call))
    status = _build.driver().cuLaunchKernelEx(ctypes.byref(launch), plan.handle, arguments, None)
    _build.check(status, "the launch of kernel 'small'")
