"""The kernel for sm_90a: what it takes, how a call is laid out, and its launch."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import UnsupportedError
from sparseflow.ops.lif.reference import WORD
from sparseflow.ops.spike_layer import _build, pairs
from sparseflow.ops.spike_layer._pack import COLUMNS, INPUTS
from sparseflow.ops.spike_layer._tensors import tensors
from sparseflow.ops.spike_layer.reference import Source

__all__ = ["Config", "Params", "configure", "spike_layer"]

SHARED = 232448  # bytes that one block may have
STAGES = 12
PIXELS = 64
FLOATS = {"float16": 1, "float32": 2}


class CSource(ctypes.Structure):
    """`Source` of spike_layer.cu."""

    _fields_ = (
        ("words", ctypes.c_void_p),
        *((name, ctypes.c_int) for name in ("height", "width", "count", "pitch", "planes")),
        *((name, ctypes.c_int) for name in ("kh", "kw", "sh", "sw", "ph", "pw", "dh", "dw")),
        *((name, ctypes.c_int) for name in ("step", "chunks", "linear", "identity")),
    )


class Params(ctypes.Structure):
    """`Params` of spike_layer.cu."""

    _fields_ = (
        ("source", CSource * 3),
        *((name, ctypes.c_void_p) for name in ("weights", "constants", "v0", "v", "out", "add")),
        *((name, ctypes.c_int) for name in ("sources", "chunks", "stages", "pixels", "height", "width")),
        *((name, ctypes.c_int) for name in ("steps", "channels", "words", "tiles", "columns")),
        ("gate", ctypes.c_void_p),
        ("open", ctypes.c_int),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """How one call is cut.

    Args:
        defines: the kernel's defines.
        grid: blocks.
        threads: threads of a block.
        shared: bytes of shared memory of a block.
        stages: chunks of weights that a block holds.
    """

    defines: tuple[tuple[str, int], ...]
    grid: int
    threads: int
    shared: int
    stages: int


def configure(
    *,
    pixels: int,
    steps: int,
    channels: int,
    chunks: int,
    halves: int,
    planes: int,
    pairs: bool,
    kind: tuple[tuple[str, int], ...],
    cores: int,
    int8: bool = False,
    identity: int = 0,
    columns: int | None = None,
    groups: int | None = None,
    split: bool | None = None,
) -> Config:
    """Choose tiles for a call.

    Args:
        pixels: N*Ho*Wo.
        steps: T.
        channels: Cout.
        chunks: chunks of 64 inputs of one tap, of all sources.
        halves: 1, or 2 for weights in two halves.
        planes: bit planes of the widest source.
        pairs: every source can be read two words at a time.
        kind: defines that the layer's kind fixes.
        cores: multiprocessors.
        int8: weights are bytes with a scale for each channel.
        identity: planes of an identity that is added after the product, as with `int8`; 0 if none is.
        columns: output channels of a tile, 32 or 64; chosen if None.
        groups: warpgroups that multiply; chosen if None.
        split: warpgroups divide the steps of one tile, rather than take a tile each; chosen if None.
    """
    tiles, wide = -(-pixels // PIXELS), -(-channels // COLUMNS)
    few = tiles * wide <= cores
    if split is None:
        split = steps > 1 and few
    if columns is None:
        columns = 32 if channels <= 32 or (2 * tiles * wide <= cores if split else few) else 64
    if groups is None:
        groups = 4 if split and steps > 2 else 2
    held = 1 if split else _held(steps, planes)
    at_once = held * groups if split else held
    count = wide * (COLUMNS // columns)
    several = steps > at_once
    chunk = INPUTS * columns * (1 if int8 else 2 * halves)
    potentials = (1 if split else groups) * columns * 256 if several else 0
    rest = 16 * chunks + (8 if int8 else 4) * columns + potentials + (at_once * columns * 256 if split else 0) + 128
    resident = chunks * (chunk + 16) + rest <= SHARED and count <= cores
    stages = chunks if resident else min(chunks, 2 * STAGES if int8 else STAGES, (SHARED - rest) // (chunk + 16))
    if stages < 2 and not resident:
        raise UnsupportedError(f"spike_layer: kernel 'cuda' cannot hold {chunks} chunks of weights in shared memory")
    work = (tiles if split else -(-tiles // groups)) * count
    defines = {
        "BN": columns,
        "TC": held,
        "WGS": groups,
        "SPLIT": int(split),
        "PLANES": planes,
        "INT8": int(int8),
        "HALVES": halves,
        "IDENT": identity,
        "RESIDENT": int(resident),
        "SCAN": int(chunks > (1 if held > 1 else 4 if planes * halves == 1 else 2) or identity > 0),
        "VEC": int(pairs),
        "MULTI": int(several),
        "TAIL": int(steps % at_once != 0),
        **dict(kind),
    }
    return Config(
        defines=tuple(defines.items()),
        grid=min(cores, work),
        threads=128 * groups + (0 if resident else 128),
        shared=stages * (chunk + 16) + rest,
        stages=stages,
    )


def _held(steps: int, planes: int) -> int:
    most = 4 if steps > 2 else steps
    return most if planes < 3 else min(most, 2)


@dataclass(frozen=True, slots=True)
class _Plan:
    config: Config
    template: Params
    device: int
    handle: ctypes.c_void_p


def _c_source(source: Source, step: int, identity: bool) -> CSource:
    _, h, w, pitch = source.words.shape
    taps = source.kernel_size[0] * source.kernel_size[1]
    pairs = 1 if identity else -(-source.channels // INPUTS)
    linear = taps == 1 and source.stride == (1, 1) and source.padding == (0, 0)
    moves = (*source.kernel_size, *source.stride, *source.padding, *source.dilation)
    count = -(-source.channels // WORD)
    return CSource(0, h, w, count, pitch, source.planes, *moves, step, taps * pairs, linear, identity)


@lru_cache(maxsize=4096)
def _plan(
    device: int,
    shapes: tuple[Any, ...],
    halves: int,
    int8: bool,
    steps: int,
    channels: int,
    pairs: bool,
    out: str,
    out_planes: int,
    add: int,
    neuron: tuple[bool, int, bool, bool],
    tune: tuple[tuple[str, Any], ...],
) -> _Plan:
    sources = [Source(torch.empty(shape, device="meta"), *rest) for shape, rest, _ in shapes]
    apart = shapes[-1][1][1] if int8 and shapes[-1][2] else 0
    if any(s.words.numel() >= 2**31 for s in sources):
        raise UnsupportedError("spike_layer: kernel 'cuda' takes fewer than 2^31 words a source")
    m, size = sources[0].words.shape[0], sources[0].output()
    pixels = m // steps * size[0] * size[1]
    each = [
        _c_source(s, s.words.numel() // steps, identity) for s, (_, _, identity) in zip(sources, shapes, strict=True)
    ]
    if apart:
        each[-1].chunks = 0
    multiplied = len(each) - bool(apart)
    chunks = sum(s.chunks for s in each)
    leak, reset, v0, keep_v = (int(x) for x in neuron)
    kind = {"OUT": FLOATS.get(out, 0), "ADD": add, "OUTP": out_planes}
    kind |= {"LEAK": leak, "RESET": reset, "V0": v0, "KEEPV": keep_v}
    config = configure(
        pixels=pixels,
        steps=steps,
        channels=channels,
        chunks=chunks,
        halves=halves,
        planes=max(s.planes for s in sources[:multiplied]),
        pairs=pairs and all(s.count % 2 == 0 for s in each[:multiplied]),
        int8=int8,
        identity=apart,
        kind=tuple(kind.items()),
        cores=torch.cuda.get_device_properties(device).multi_processor_count,
        **dict(tune),
    )
    defines = dict(config.defines)
    template = Params(
        (CSource * 3)(*each),
        *[0] * 6,
        multiplied,
        chunks,
        config.stages,
        pixels,
        *size,
        steps,
        channels,
        -(-channels // WORD),
        -(-pixels // PIXELS),
        -(-channels // COLUMNS) * (COLUMNS // defines["BN"]),
    )
    return _Plan(config, template, device, _build.function(device, config.defines, config.shared))


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
        into: contiguous int32 words `[T*N, Ho, Wo, out_planes*ceil(Cout/32)]` to write; made if None.
        gate: one int32 on the device and a number; unless they are equal when the kernel starts, it returns at
            once and writes nothing.
        tune: arguments of `configure` that are not to be chosen, or defines of `pairs`; "pairs" says whether it runs.

    Raises:
        UnsupportedError: it cannot run here; says why.
    """
    words = sources[0].words
    reason = _build.refusal(words.device)
    if reason is not None:
        raise UnsupportedError(f"spike_layer: kernel 'cuda' cannot run: {reason}")
    channels, params = weights.out_channels, weights.params
    m, (ho, wo) = words.shape[0], sources[0].output()
    every = [s._replace(words=s.words.contiguous()) for s in sources]
    if identity is not None:
        every.append(Source(identity[0].contiguous(), channels, identity[1]))
    made = tensors(
        words, (ho, wo), channels, steps=steps, add=add, v0=v0, keep_v=keep_v, out=out, out_planes=out_planes, into=into
    )
    if m == 0:
        return made.result, made.last
    n = m // steps
    packed, constants = weights.tensors["weights"], weights.tensors["constants"]
    leak = params is not None and params.kind == "lif"
    reset = 0 if params is None or params.v_reset is None else 1 if params.v_reset == 0 else 2
    known = dict(tune)
    device = words.get_device()
    alone = v0 is None and not keep_v and "pairs" in weights.tensors and pairs.fits(every[0])
    if alone and known.keys() <= {"pairs", *pairs.TUNED}:
        cores = torch.cuda.get_device_properties(device).multi_processor_count
        # Where tiles are few, the kernel for single pixels divides their steps.
        if known.get("pairs", -(-n * ho * wo // PIXELS) * -(-channels // COLUMNS) > cores):
            addresses = (
                *(x.data_ptr() for x in (every[0].words, *pairs.packed(weights.tensors), made.y)),
                made.addresses[3],
                0 if gate is None else gate[0].data_ptr(),
            )
            cut = pairs.configure(
                count=every[0].words.shape[3],
                add=0 if add is None else add[1],
                out_planes=out_planes,
                reset=reset,
                tune=tuple((name, value) for name, value in known.items() if name != "pairs"),
            )
            paired = pairs.Call(addresses, 0 if gate is None else gate[1], n, ho, wo, steps, channels, cores)
            pairs.launch(device, torch.cuda.current_stream(device).cuda_stream, cut, paired)
            return made.result, made.last
    known.pop("pairs", None)
    plan = _plan(
        device,
        tuple((tuple(s.words.shape), s[1:], identity is not None and i == len(sources)) for i, s in enumerate(every)),
        packed.shape[2],
        weights.precision == "int8",
        steps,
        channels,
        all(s.words.data_ptr() % 8 == 0 for s in every),
        out,
        out_planes,
        0 if add is None else add[1],
        (leak, reset, v0 is not None, keep_v),
        tuple(known.items()),
    )
    call = Params.from_buffer_copy(plan.template)
    for i, s in enumerate(every):
        call.source[i].words = s.words.data_ptr()
    call.weights, call.constants = packed.data_ptr(), constants.data_ptr()
    call.v0, call.v, call.out, call.add = made.addresses
    call.gate, call.open = (0, 0) if gate is None else (gate[0].data_ptr(), gate[1])
    _launch(plan, call)
    return made.result, made.last


def _launch(plan: _Plan, call: Params) -> None:
    stream = ctypes.c_void_p(torch.cuda.current_stream(plan.device).cuda_stream)
    arguments = (ctypes.c_void_p * 1)(ctypes.addressof(call))
    config = plan.config
    status = _build.driver().cuLaunchKernel(
        plan.handle, config.grid, 1, 1, config.threads, 1, 1, config.shared, stream, arguments, None
    )
    _build.check(status, "the launch")
