"""One layer of a spiking network on packed spikes: convolutions, neurons over all steps, and packing, in one kernel."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops._library import run
from sparseflow.ops.lif.reference import WORD, LIFParams
from sparseflow.ops.spike_layer import _pack, cuda, event, gate, pairs, reference, small
from sparseflow.ops.spike_layer._grid import grid_exact, quantise
from sparseflow.ops.spike_layer.reference import Source, check_width, pack_counts, unpack_counts
from sparseflow.ops.spike_layer.space import OP

__all__ = ["OP", "LayerWeights", "Source", "grid_exact", "pack_counts", "pack_layer", "spike_layer", "unpack_counts"]

KERNELS = ("dense", "triton", "cuda", "event", "small", "gated")
PRECISIONS = ("fp16", "exact", "int8")
OUTS = {"words": torch.int32, "float16": torch.float16, "float32": torch.float32}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerWeights:
    """The weights of one layer, packed once for one kernel.

    Args:
        kernel: "dense", "triton", "cuda", "event", "small" or "gated".
        precision: "fp16", "exact" for a high and a low half of each weight, or "int8".
        out_channels: Cout.
        shapes: weight shape `(Cout, C, kh, kw)` of each source.
        planes: bits of a count, of each source and then of the identity, if any.
        identity: packed counts are added to the currents.
        params: constants of the neurons, or None for currents out.
        tensors: what the kernel reads, by name.
        spec: all but the tensors, in one string.
    """

    kernel: str
    precision: str
    out_channels: int
    shapes: tuple[tuple[int, ...], ...]
    planes: tuple[int, ...]
    identity: bool
    params: LIFParams | None
    tensors: dict[str, Tensor]
    spec: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Write down everything but the tensors, as the operator's schema carries it."""
        p = self.params
        neuron = None if p is None else (p.tau, p.v_threshold, p.v_reset, p.decay_input, p.kind)
        names = tuple(self.tensors)
        spec = self.kernel, self.precision, self.out_channels, self.shapes, self.planes, self.identity, neuron, names
        object.__setattr__(self, "spec", json.dumps(spec))

    def to(self, device: torch.device | str) -> "LayerWeights":
        """Return the same weights on another device."""
        return replace(self, tensors={name: x.to(device) for name, x in self.tensors.items()})


def pack_layer(
    weights: Sequence[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    *,
    identity: bool = False,
    planes: Sequence[int] | None = None,
    precision: str = "fp16",
    kernel: str = "cuda",
    crossover: float | None = None,
) -> LayerWeights:
    """Pack the weights of one layer for a kernel.

    Args:
        weights: `[Cout, C, kh, kw]` float of each source, BatchNorm folded in.
        bias: `[Cout]` sum of the sources' biases, or None.
        params: constants of the neurons, or None for a layer that returns its currents.
        identity: packed counts of Cout channels will be added to the currents.
        planes: bits of a count, of each source and then of the identity, if any; 1 if not given.
        precision: "fp16", "exact" (a high and a low float16 of each weight: about 22 bits), or
            "int8": whole numbers up to 127 times a scale of each output channel, which sources
            share. Weights on such a grid stay as they are (see `grid_exact`), others are rounded;
            sums are exact. Only kernel "cuda" multiplies in int8; others get the same weights
            in their most exact form.
        kernel: "dense", "triton", "cuda", "event", "small", or "gated": "event" or "cuda", as the spikes of
            each call decide.
        crossover: for "gated", the share of spikes above which "cuda" runs.

    Raises:
        ConfigError: shapes that do not fit, or an unknown precision.
        UnsupportedError: the kernel rejects these weights; says why.

    >>> w = pack_layer([torch.ones(2, 3, 1, 1)], None, LIFParams(), kernel="dense")
    >>> w.out_channels, w.planes
    (2, (1,))
    """
    if kernel not in KERNELS:
        raise UnsupportedError(f"pack_layer: no kernel {kernel!r}; there are {', '.join(KERNELS)}")
    if precision not in PRECISIONS:
        raise ConfigError(f"pack_layer: precision is {precision!r}; expected {', '.join(PRECISIONS)}")
    if not weights or any(w.ndim != 4 or w.shape[0] != weights[0].shape[0] for w in weights):
        raise ConfigError(f"pack_layer: weights are {[tuple(w.shape) for w in weights]}; expected [Cout, C, kh, kw]")
    if bias is not None and bias.shape != weights[0].shape[:1]:
        raise ConfigError(f"pack_layer: bias is {tuple(bias.shape)}; expected {tuple(weights[0].shape[:1])}")
    bits = tuple(planes) if planes is not None else (1,) * (len(weights) + identity)
    if identity and len(bits) == len(weights):
        bits += (1,)
    if len(bits) != len(weights) + identity or min(bits) < 1:
        raise ConfigError(
            f"pack_layer: planes are {bits}; expected one for each of {len(weights)} sources and identity"
        )
    if not all(bool(torch.isfinite(w).all()) for w in (*weights, *([] if bias is None else [bias]))):
        raise UnsupportedError("pack_layer: a weight is NaN or infinite, which packed spikes would hide")
    return LayerWeights(
        kernel=kernel,
        precision=precision,
        out_channels=weights[0].shape[0],
        shapes=tuple(tuple(w.shape) for w in weights),
        planes=bits,
        identity=identity,
        params=params,
        tensors=_packed(kernel, [w.detach() for w in weights], bias, params, identity, bits, precision, crossover),
    )


def _packed(
    kernel: str,
    weights: list[Tensor],
    bias: Tensor | None,
    params: LIFParams | None,
    identity: bool,
    planes: tuple[int, ...],
    precision: str,
    crossover: float | None = None,
) -> dict[str, Tensor]:
    if precision == "int8" and kernel != "gated":
        bits = planes[: len(weights)]
        grid = quantise(weights, bits)
        if kernel == "cuda":
            return _pack.pack_int8(grid, bias, params, bits)
        weights, precision = grid.weights(), "exact"
    if kernel == "triton":
        from sparseflow.ops.spike_layer import triton

        return triton.pack(weights, bias, params, identity, planes, precision)
    if kernel == "event":
        return event.pack(weights, bias, params, identity, planes, precision)
    if kernel == "small":
        return small.pack(weights, bias, params, identity, planes, precision)
    if kernel == "gated":
        return gate.pack(weights, bias, params, identity, planes, precision, crossover)
    if kernel == "cuda":
        tensors = _pack.pack(weights, bias, params, identity, precision)
        spikes_alone = planes == (1,) and not identity and precision == "fp16"
        if params is None or not (spikes_alone and pairs.suits(tuple(weights[0].shape))):
            return tensors
        if pairs.keeps(weights[0], params):
            tensors |= pairs.pack(weights[0], bias, params)
        return tensors
    tensors = {f"weight{i}": w.contiguous() for i, w in enumerate(weights)}
    return tensors if bias is None else {**tensors, "bias": bias.detach()}


def spike_layer(
    sources: Sequence[Source],
    weights: LayerWeights,
    *,
    steps: int,
    identity: tuple[Tensor, int] | None = None,
    add: tuple[Tensor, int] | None = None,
    v0: Tensor | None = None,
    keep_v: bool = False,
    out: str = "words",
    out_planes: int | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Run one layer of a spiking network on packed spikes, all steps at once.

    The currents `x[t] = bias + sum over sources of conv(source[t], weight) + identity[t]`
    go through the neuron of `sparseflow.ops.lif.lif` over t, giving spikes
    `s[t]`; the output is `s[t] + add[t]`, packed. Without a neuron the output is `x`.

    Args:
        sources: one or two convolution sources, all with the same output size.
        weights: `pack_layer` of their weights.
        steps: T.
        identity: words and planes of counts of Cout channels, added to the currents.
        add: words and planes of counts of Cout channels, added to the spikes.
        v0: `[N, Cout, Ho, Wo]` float32 potential before the first step; the rest if None.
        keep_v: return the potential after the last step.
        out: "words", or, for weights packed without a neuron, "float16" or "float32".
        out_planes: planes of the output; by default 1, or those of `add` and one more.
            Sums are kept modulo `2**out_planes`: name fewer where their bound is known.

    Returns:
        int32 words `[T*N, Ho, Wo, out_planes*ceil(Cout/32)]`, or the currents
        `[T*N, Cout, Ho, Wo]`, channels last in memory; and the potential
        `[N, Cout, Ho, Wo]`, channels last, or None.

    Raises:
        ConfigError: operands that do not fit the weights or each other.
        UnsupportedError: the kernel cannot run here; says why.

    Cost: 2*MACs at any density (fused: reads and writes bits alone). No gradient.
    Source: ours.

    >>> from sparseflow.ops.lif import pack_spikes
    >>> w = pack_layer([torch.ones(1, 3, 1, 1)], None, LIFParams(kind="if"), kernel="dense")
    >>> spike_layer([Source(pack_spikes(torch.ones(2, 3, 1, 1)), 3)], w, steps=2)[0].flatten()
    tensor([1, 1], dtype=torch.int32)
    """
    planes = out_planes or (1 if add is None else add[1] + 1)
    _check(sources, weights, steps, identity, add, v0, keep_v, out)
    moves = [n for s in sources for n in (s.planes, *s.kernel_size, *s.stride, *s.padding, *s.dilation)]
    words, v = run(
        _spike_layer,
        sources[0].words,
        [s.words for s in sources[1:]],
        list(weights.tensors.values()),
        None if identity is None else identity[0],
        None if add is None else add[0],
        v0,
        weights.spec,
        [steps, int(keep_v), list(OUTS).index(out), planes, 0 if add is None else add[1], *moves],
    )
    return words, v if keep_v else None


@lru_cache(maxsize=4096)
def _decode(spec: str) -> LayerWeights:
    kernel, precision, cout, shapes, planes, identity, neuron, names = json.loads(spec)
    fields = ("tau", "v_threshold", "v_reset", "decay_input", "kind")
    return LayerWeights(
        kernel=kernel,
        precision=precision,
        out_channels=cout,
        shapes=tuple(tuple(s) for s in shapes),
        planes=tuple(planes),
        identity=identity,
        params=None if neuron is None else LIFParams(**dict(zip(fields, neuron, strict=True))),
        tensors=dict.fromkeys(names, torch.empty(0)),
    )


def _sources(words: Sequence[Tensor], weights: LayerWeights, numbers: list[int]) -> list[Source]:
    made = []
    for i, (x, shape) in enumerate(zip(words, weights.shapes, strict=True)):
        planes, *n = numbers[5 + 9 * i : 14 + 9 * i]
        made.append(Source(x, shape[1], planes, (n[0], n[1]), (n[2], n[3]), (n[4], n[5]), (n[6], n[7])))
    return made


@torch.library.custom_op("sparseflow::spike_layer", mutates_args=())
def _spike_layer(
    words: Tensor,
    more: list[Tensor],
    tensors: list[Tensor],
    identity: Tensor | None,
    add: Tensor | None,
    v0: Tensor | None,
    spec: str,
    numbers: list[int],
) -> tuple[Tensor, Tensor]:
    plan = _decode(spec)
    steps, keep_v, out, out_planes, add_planes = numbers[:5]
    y, v = _kernels(plan.kernel)(
        _sources([words, *more], plan, numbers),
        replace(plan, tensors=dict(zip(plan.tensors, tensors, strict=True))),
        steps=steps,
        identity=None if identity is None else (identity, plan.planes[-1]),
        add=None if add is None else (add, add_planes),
        v0=v0,
        keep_v=bool(keep_v),
        out=list(OUTS)[out],
        out_planes=out_planes,
    )
    return y, words.new_empty(0, dtype=torch.float32) if v is None else v


@_spike_layer.register_fake
def _(
    words: Tensor, more: list[Tensor], tensors: Any, identity: Any, add: Any, v0: Any, spec: str, numbers: list[int]
) -> tuple[Tensor, Tensor]:
    weights, m = _decode(spec), words.shape[0]
    steps, keep_v, out, out_planes, _ = numbers[:5]
    ho, wo = _sources([words, *more], weights, numbers)[0].output()
    cout = weights.out_channels
    v = words.new_empty((m // steps, ho, wo, cout), dtype=torch.float32).permute(0, 3, 1, 2)
    v = v if keep_v else words.new_empty(0, dtype=torch.float32)
    if out == 0:
        return words.new_empty((m, ho, wo, out_planes * -(-cout // WORD))), v
    return words.new_empty((m, ho, wo, cout), dtype=list(OUTS.values())[out]).permute(0, 3, 1, 2), v


def _kernels(name: str) -> Any:
    if name == "dense":
        return _dense
    if name == "triton":
        from sparseflow.ops.spike_layer import triton

        return triton.spike_layer
    return {"event": event, "small": small, "gated": gate}.get(name, cuda).spike_layer


def _dense(
    sources: Sequence[Source],
    weights: LayerWeights,
    *,
    steps: int,
    identity: tuple[Tensor, int] | None,
    add: tuple[Tensor, int] | None,
    v0: Tensor | None,
    keep_v: bool,
    out: str,
    out_planes: int,
) -> tuple[Tensor, Tensor | None]:
    plain = [weights.tensors[f"weight{i}"] for i in range(len(sources))]
    y, v = reference.spike_layer(
        sources,
        plain,
        weights.tensors.get("bias"),
        weights.params,
        steps=steps,
        identity=identity,
        add=add,
        v0=v0,
        out_planes=out_planes,
    )
    if out == "words":
        return y, _channels_last(v, torch.float32) if keep_v and v is not None else None
    return _channels_last(y, OUTS[out]), None


def _channels_last(x: Tensor, dtype: torch.dtype) -> Tensor:
    m, c, h, w = x.shape
    return x.new_empty((m, h, w, c), dtype=dtype).permute(0, 3, 1, 2).copy_(x)


def _check(
    sources: Sequence[Source],
    weights: LayerWeights,
    steps: int,
    identity: tuple[Tensor, int] | None,
    add: tuple[Tensor, int] | None,
    v0: Tensor | None,
    keep_v: bool,
    out: str,
) -> None:
    if out not in OUTS:
        raise ConfigError(f"spike_layer: out is {out!r}; expected {', '.join(OUTS)}")
    if (out == "words") != (weights.params is not None):
        raise ConfigError(f"spike_layer: out is {out!r}, but the weights are packed with neurons {weights.params}")
    if out != "words" and (add is not None or v0 is not None or keep_v):
        raise ConfigError("spike_layer: add, v0 and keep_v need a neuron")
    if len(sources) != len(weights.shapes):
        raise ConfigError(f"spike_layer: {len(sources)} sources, but weights for {len(weights.shapes)}")
    if (identity is not None) != weights.identity:
        raise ConfigError(f"spike_layer: the weights are packed {'with' if weights.identity else 'without'} identity")
    m, size = sources[0].words.shape[0], sources[0].output()
    if steps < 1 or m % steps or min(size) < 1:
        raise ConfigError(f"spike_layer: {m} maps, {steps} steps and an output of {size} pixels do not fit")
    for source, shape, planes in zip(sources, weights.shapes, weights.planes, strict=False):
        fits = check_width(source.words, source.channels, source.planes) and source.words.shape[0] == m
        if not fits or source.output() != size:
            raise ConfigError(
                f"spike_layer: words are {source.words.dtype} {tuple(source.words.shape)} for {source.channels} "
                f"channels in {source.planes} planes; "
                f"expected int32 [{m}, H, W, planes*ceil(C/32)] and an output of {size}"
            )
        if (source.channels, *source.kernel_size) != shape[1:] or source.planes != planes:
            raise ConfigError(f"spike_layer: {source[1:]} does not fit weights {shape} packed for {planes} planes")
    cout = weights.out_channels
    for name, extra in (("identity", identity), ("add", add)):
        if extra is not None and (not check_width(extra[0], cout, extra[1]) or extra[0].shape[:3] != (m, *size)):
            raise ConfigError(f"spike_layer: {name} is {tuple(extra[0].shape)} in {extra[1]} planes of {cout} channels")
    if identity is not None and identity[1] != weights.planes[-1]:
        raise ConfigError(f"spike_layer: identity has {identity[1]} planes; packed for {weights.planes[-1]}")
    if v0 is not None and v0.shape != (m // steps, cout, *size):
        raise ConfigError(f"spike_layer: v0 is {tuple(v0.shape)}; expected {(m // steps, cout, *size)}")
