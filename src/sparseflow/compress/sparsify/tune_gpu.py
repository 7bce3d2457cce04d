"""Time every kernel of a packed layer on the spikes that it really gets, without the cost of launching it."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx

from sparseflow.compress.sparsify.drift import BUCKETS, crossing, iid_spikes
from sparseflow.compress.sparsify.fuse import Fused
from sparseflow.compress.sparsify.memory import PACKED, Memory
from sparseflow.compress.sparsify.parity import rel_error
from sparseflow.compress.sparsify.parity_gpu import plain_convolutions
from sparseflow.compress.sparsify.tune import Effort, Timed
from sparseflow.cost import measure
from sparseflow.errors import UnsupportedError
from sparseflow.ir import Layer, Workload
from sparseflow.nn.spike_layer_block import SpikeLayerBlock
from sparseflow.nn.spikes import Spikes, unpack
from sparseflow.nn.stem_block import StemBlock
from sparseflow.ops.spike_layer.gate import set_bits

__all__ = ["GATED", "KERNELS_CPU", "KERNELS_GPU", "as_graph", "call_seconds", "time_lowered"]

KERNELS_GPU = ("library", "triton", "cuda", "int8", "event", "small")
KERNELS_CPU = ("library", "dense")
SPIKES_OFF = 1e-3
"""Share of spikes above which a kernel is taken for wrong, and not for rounding otherwise."""
ROUNDED_OFF = 3e-3
"""The same where weights may be rounded to 8 bits."""
FLOATS_OFF = 1e-2
GATED = {"cuda": "gated", "int8": "gated int8"}
"""Kernels for many spikes, and the pair of each with the one for few."""
_ROUNDING = ("int8", "gated int8")
_CALLS = 4


def time_lowered(
    lowered: Fused,
    args: tuple[Any, ...],
    workload: Workload,
    effort: Effort,
    memory: Memory,
    *,
    kernels: Sequence[str],
    margin: float = 0.02,
) -> dict[str, Timed]:
    """Time the kernels of every packed layer, and of the image's, on its real input; set each to the fastest right one.

    On CUDA a kernel is timed as the replay of a graph of several calls, since it
    will run from a graph. A kernel that refuses the layer, fails, or makes other
    spikes than the library in float32 is left out, with the reason.

    Kernel "event" slows down with every spike. Where it wins on the sample and
    loses at other densities, it runs behind a gate: each call counts its spikes on
    the device, and above the measured crossover a tensor-core kernel runs instead.
    That pair is taken if it still is faster, by the margin, than every kernel that
    does not depend on the density; else the fastest of those is.

    Args:
        lowered: from `lower_gpu`; its blocks' kernels are changed.
        args: arguments of its forward.
        workload: what was traced.
        effort: how long to measure.
        memory: times known from before.
        kernels: names to try; the first one stays where none runs.
        margin: by which fraction a gated pair must be faster.

    Returns:
        Times by name of the block's module.
    """
    tuner = _Tuner(lowered, workload, effort, memory, tuple(kernels), margin)
    with torch.no_grad():
        tuner.run(*args)
    return tuner.timed


def as_graph(call: Callable[[], Any], times: int = 1) -> Callable[[], Any]:
    """Return a call that replays `call` from a CUDA graph, several times over; its result is the last one's.

    Args:
        call: launches work on the current device; has run before.
        times: calls in the graph.
    """
    here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(2):
            call()
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        for _ in range(times):
            result = call()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


class _Tuner(fx.Interpreter):
    def __init__(
        self,
        lowered: Fused,
        workload: Workload,
        effort: Effort,
        memory: Memory,
        kernels: tuple[str, ...],
        margin: float,
    ) -> None:
        super().__init__(lowered.graph_module)
        self.regions, self.workload, self.effort, self.memory = lowered.blocks, workload, effort, memory
        self.kernels, self.margin = kernels, margin
        self.cuda = False
        self.timed: dict[str, Timed] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        block = self.fetch_attr(target)
        if isinstance(block, SpikeLayerBlock):
            self.timed[str(target)] = self.time(block, str(target), args)
        elif isinstance(block, StemBlock) and args[0].is_cuda:
            self.timed[str(target)] = self.time_stem(block, str(target), args[0])
        return super().call_module(target, args, kwargs)

    def time(self, block: SpikeLayerBlock, name: str, args: tuple[Any, ...]) -> Timed:
        region = self.regions[name]
        assert region.layer is not None
        layer = self.workload.layer(str(region.layer.target))
        form, self.cuda = self.form(block, args[0].words, len(args)), bool(args[0].words.is_cuda)
        calls, failures = self.right(block, args)
        known = self.known(layer, calls, form, failures)
        block.kernel = min(known, key=lambda k: known[k], default=self.kernels[0])
        timed = Timed(kernels=known, original=known.get("library"), failures=failures)
        if block.kernel == "event":
            timed = self.behind_a_gate(block, args, layer, form, timed)
        block.settle()
        return timed

    def time_stem(self, block: StemBlock, name: str, x: Tensor) -> Timed:
        """Time the kernels of the image's layer; both keep float32 currents."""
        region = self.regions[name]
        assert region.layer is not None
        self.cuda = bool(x.is_cuda)
        calls: dict[str, Callable[[], Any]] = {}
        failures: dict[str, str] = {}
        expected = _stem_with(block, "library")(x)
        for kernel in block.kernels:
            own = _stem_with(block, kernel)
            try:
                reason = _difference(expected, own(x), SPIKES_OFF)
            except Exception as e:
                reason = str(e) if isinstance(e, UnsupportedError) else f"{type(e).__name__}: {e}"
            if reason is None:
                calls[kernel] = _bound(own, (x,))
            else:
                failures[kernel] = reason
        device = torch.cuda.get_device_name(x.device) if self.cuda else "cpu"
        layer = self.workload.layer(str(region.layer.target))
        known = self.known(layer, calls, f"{PACKED}stem of {block.repeat} steps on {device}", failures)
        block.kernel = min(known, key=lambda k: known[k], default="library")
        block.settle()
        return Timed(kernels=known, original=known.get("library"), failures=failures)

    def known(
        self, layer: Layer, calls: Mapping[str, Callable[[], Any]], form: str, failures: dict[str, str]
    ) -> dict[str, float]:
        """Return the seconds of every call, from the records where they are there."""
        known = self.memory.recall(layer, tuple(calls), form) if calls else {}
        if known is None:
            known = call_seconds(calls, self.cuda, self.effort, failures)
            self.memory.keep(layer, known, form)
        return {kernel: s for kernel, s in known.items() if kernel in calls}

    def behind_a_gate(
        self, block: SpikeLayerBlock, args: tuple[Any, ...], layer: Layer, form: str, timed: Timed
    ) -> Timed:
        """Let a layer that few spikes are fast in bear many; set its kernel."""
        steady = {kernel: s for kernel, s in timed.kernels.items() if kernel != "event"}
        wide = {kernel: s for kernel, s in steady.items() if kernel in GATED}
        if not wide:
            timed.failures["gated"] = "no tensor-core kernel takes the layer: 'event' stays, slower at higher densities"
            return timed
        many = min(wide, key=lambda k: wide[k])
        own = self.density(args[0])
        buckets = {own: timed.kernels}
        for name, densities in BUCKETS.items():
            for density in (d for d in densities if d > own):
                spikes = (iid_spikes(args[0], density), *args[1:])
                calls = {k: _bound(_with(block, k, block.floats), spikes) for k in ("event", many)}
                at = f"{form}, {100 * density:g} % of spikes (of {name})"
                buckets[density] = self.known(layer, calls, at, timed.failures)
        points = [(d, s["event"], s[many]) for d, s in buckets.items() if {"event", many} <= s.keys()]
        crossover = crossing(points, own)
        timed = replace(timed, buckets=buckets)
        if crossover is None:
            return timed
        block.crossover = crossover = float(f"{crossover:.3g}")
        kernel = GATED[many]
        calls, failures = self.right(block, args, (kernel,))
        found = self.known(layer, calls, f"{form}, above {crossover} {many}", failures)
        timed.failures.update(failures)
        timed.kernels.update(found)
        best = min(steady, key=lambda k: steady[k])
        if kernel in found and found[kernel] * (1 + self.margin) <= steady[best]:
            block.kernel = kernel
            return replace(timed, crossover=crossover)
        block.kernel, block.crossover = best, None
        if kernel in found:
            timed.failures["event"] = (
                f"measured {timed.kernels['event'] * 1e6:.1f} us on the sample, but slower than {many!r} above "
                f"{crossover:.2%} of spikes; behind a gate {found[kernel] * 1e6:.1f} us, not {self.margin:.0%} faster "
                f"than {best!r} with {steady[best] * 1e6:.1f} us"
            )
        return timed

    def density(self, spikes: Spikes) -> float:
        bits = spikes.words.numel() // max(spikes.words.shape[-1], 1) * spikes.channels * spikes.planes
        return set_bits(spikes.words) / max(bits, 1)

    def form(self, block: SpikeLayerBlock, words: Tensor, inputs: int) -> str:
        device = torch.cuda.get_device_name(words.device) if words.is_cuda else "cpu"
        planes = "+".join(str(p.planes) for p in block.parts)
        merged = f"{inputs} inputs, planes {planes}/{block.identity}/{block.out_planes}"
        return f"{PACKED}{block.precision} on {device}: {merged}, neuron {block._membrane is not None}"

    def right(
        self, block: SpikeLayerBlock, args: tuple[Any, ...], kernels: tuple[str, ...] | None = None
    ) -> tuple[dict[str, Callable[[], Any]], dict[str, str]]:
        """Return a call of every kernel whose output is right, and why the others are not among them."""
        truth = _with(block, "library", torch.float32)
        with plain_convolutions():
            expected = truth(*args)
        calls: dict[str, Callable[[], Any]] = {}
        failures: dict[str, str] = {}
        for kernel in self.kernels if kernels is None else kernels:
            own = _with(block, kernel, block.floats)
            rounds = block.precision == "int8" and kernel in _ROUNDING
            try:
                reason = _difference(expected, own(*args), ROUNDED_OFF if rounds else SPIKES_OFF)
            except Exception as e:
                reason = str(e) if isinstance(e, UnsupportedError) else f"{type(e).__name__}: {e}"
            if reason is None:
                calls[kernel] = _bound(own, args)
            else:
                failures[kernel] = reason
        return calls, failures


def call_seconds(
    calls: Mapping[str, Callable[[], Any]], cuda: bool, effort: Effort, failures: dict[str, str]
) -> dict[str, float]:
    """Return the seconds of one of each of several calls, measured in interleaved rounds.

    Args:
        calls: what to time, by name; each has run before.
        cuda: time replays of graphs of several calls.
        effort: how long to measure.
        failures: takes the reasons why calls could not be captured.
    """
    fns, times = dict(calls), 1
    if cuda:
        times, fns = _CALLS, {}
        for kernel, call in calls.items():
            try:
                fns[kernel] = as_graph(call, times)
            except Exception as e:
                failures[kernel] = f"cannot be captured: {type(e).__name__}: {e}"
    if not fns:
        return {}
    found = measure(
        fns,
        repeats=effort.repeats,
        budget_s=effort.budget_s,
        min_time_s=1e-3 if cuda else 0.0,
        failures=failures,
    )
    return {kernel: timing.median_s / times for kernel, timing in found.items()}


def _with(block: SpikeLayerBlock, kernel: str, floats: torch.dtype) -> SpikeLayerBlock:
    own = copy.copy(block)
    own.kernel, own.floats, own._packed, own._made = kernel, floats, {}, ()
    return own


def _stem_with(block: StemBlock, kernel: str) -> StemBlock:
    own = copy.copy(block)
    own.kernel, own._packed, own._made = kernel, {}, ()
    return own


def _bound(call: Callable[..., Any], args: tuple[Any, ...]) -> Callable[[], Any]:
    return lambda: call(*args)


def _difference(expected: Any, made: Any, most: float) -> str | None:
    """Return why an output is wrong, or None; `most` is the share of spikes that rounding explains."""
    if isinstance(expected, Spikes):
        a, b = unpack(expected), unpack(made)
        if a.shape != b.shape:
            return f"it makes spikes of shape {tuple(b.shape)}, not {tuple(a.shape)}"
        off = float((a != b).float().mean()) if a.numel() else 0.0
        return None if off <= most else f"{off:.2%} of its spikes differ from those of the library in float32"
    error = rel_error(expected, made.float())
    return None if error <= FLOATS_OFF else f"its output differs by {error:.2g} of the largest value"
