"""Time every kernel of a layer on the input that it really gets."""

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, fx, nn

from sparseflow.compress.sparsify.analyze import Site
from sparseflow.compress.sparsify.fuse import Fused
from sparseflow.compress.sparsify.layers import sparse_layer
from sparseflow.compress.sparsify.memory import Memory
from sparseflow.compress.sparsify.parity import REL_TOL, rel_error
from sparseflow.compress.sparsify.policy import choose_kernel
from sparseflow.compress.sparsify.regions import Region
from sparseflow.compress.sparsify.replace import get_module
from sparseflow.cost import measure
from sparseflow.errors import UnsupportedError
from sparseflow.ir import Workload
from sparseflow.nn.spike_block import ConvBlock, ConvNeuronBlock, DenseBlock, NeuronBlock
from sparseflow.nn.spikes import Spikes, unpack

__all__ = ["Effort", "Timed", "polish", "time_blocks", "time_layers"]

_FELT = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How long to measure.

    Args:
        repeats: interleaved rounds.
        budget_s: seconds for one layer; a full round always runs.
        model_budget_s: seconds for the comparison of whole models.
        compile_s: seconds after which no further dense rival is compiled, on GPUs; 0 compiles none.
    """

    repeats: int = 15
    budget_s: float = 1.0
    model_budget_s: float = 10.0
    compile_s: float = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Measured times of one layer or block, in seconds by name.

    Args:
        kernels: time by kernel name, "dense" included.
        original: time of the modules as the model has them, eager, or None.
        rel_err: largest difference of a kernel's output from the dense one's, over the largest output.
        failures: kernels that did not run or were wrong, with the reason.
        twins: sparse twin of the layer by kernel, its weight packed.
        crossover: share of spikes above which the chosen kernel hands over to another one, or None.
        buckets: time by kernel name at other densities, by density.
    """

    kernels: dict[str, float] = field(default_factory=dict)
    original: float | None = None
    rel_err: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    twins: dict[str, nn.Module] = field(default_factory=dict, repr=False)
    crossover: float | None = None
    buckets: dict[float, dict[str, float]] = field(default_factory=dict)


def time_layers(
    model: nn.Module, args: tuple[Any, ...], sites: Sequence[Site], effort: Effort, memory: Memory
) -> dict[str, Timed]:
    """Time the drop-in kernels of every site while the model runs once on the sample.

    A layer that runs several times, as in a loop over time steps, is timed on
    the input of its middle run.

    Args:
        model: a copy that may run; its state is up to the caller.
        args: arguments of its forward.
        sites: the layers to time.
        effort: how long to measure.
        memory: times known from before.

    Returns:
        Times by layer name; a layer that did not run is missing.
    """
    timed: dict[str, Timed] = {}
    handles = []

    def listen(site: Site, module: nn.Module) -> Callable[..., None]:
        seen = [0]

        def hook(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen[0] += 1
            if seen[0] == site.calls // 2 + 1 and inputs and isinstance(inputs[0], Tensor):
                timed[site.name] = _time_layer(module, inputs[0], site, effort, memory)

        return hook

    try:
        for site in sites:
            module = get_module(model, site.name)
            handles.append(module.register_forward_pre_hook(listen(site, module)))
        model(*args)
    finally:
        for handle in handles:
            handle.remove()
    return timed


def _time_layer(module: nn.Module, x: Tensor, site: Site, effort: Effort, memory: Memory) -> Timed:
    fns: dict[str, Callable[[], Any]] = {"dense": _bound(module.forward, x)}
    expected = module.forward(x)
    failures: dict[str, str] = {}
    twins: dict[str, nn.Module] = {}
    rel_err = 0.0
    for kernel in site.kernels:
        # The hook that calls this listens to the layer too, which would count as a reason to refuse it.
        hooks, module._forward_pre_hooks = module._forward_pre_hooks, type(module._forward_pre_hooks)()
        try:
            twin = sparse_layer(module, kernel).eval()
            error = rel_error(expected, twin(x))
        except Exception as e:
            failures[kernel] = str(e) if isinstance(e, UnsupportedError) else f"{type(e).__name__}: {e}"
            continue
        finally:
            module._forward_pre_hooks = hooks
        if error > REL_TOL:
            failures[kernel] = f"its output differs from the dense one by {error:.2g} of the largest value"
            continue
        rel_err = max(rel_err, error)
        fns[kernel] = _bound(twin.forward, x)
        twins[kernel] = twin
    known = memory.recall(site.layer, tuple(fns))
    if known is None:
        known = _seconds(fns, effort, failures)
        memory.keep(site.layer, known)
    return Timed(kernels=known, original=known.get("dense"), rel_err=rel_err, failures=failures, twins=twins)


def _seconds(fns: Mapping[str, Callable[[], Any]], effort: Effort, failures: dict[str, str]) -> dict[str, float]:
    """Return a quiet time of each function: the lower quartile of single interleaved calls.

    One call at a time, so that each finds the caches as another kernel left
    them, as it does inside a network, and not filled with its own weights.
    """
    found = measure(fns, repeats=effort.repeats, budget_s=effort.budget_s, min_time_s=0.0, failures=failures)
    return {name: statistics.quantiles([*t.rounds_s, *t.rounds_s], n=4)[0] for name, t in found.items()}


def _bound(call: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    return lambda: call(*args)


def time_blocks(
    fused: Fused,
    args: tuple[Any, ...],
    modules: Mapping[str, nn.Module],
    sites: Sequence[Site],
    workload: Workload,
    effort: Effort,
    memory: Memory,
    *,
    margin: float,
) -> dict[str, Timed]:
    """Time the kernels of every block on its real input, and set each block to the fastest.

    Args:
        fused: a fused graph; its blocks' kernels are changed.
        args: arguments of its forward.
        modules: the traced model's modules by dotted path.
        sites: layers with sparse kernels to try.
        workload: what was traced.
        effort: how long to measure.
        memory: times known from before.
        margin: by which fraction a kernel must beat the dense one.

    Returns:
        Times by name of the block's module.
    """
    tuner = _Tuner(fused, modules, sites, workload, effort, memory, margin)
    tuner.run(*args)
    return tuner.timed


def polish(fused: Fused, run: Callable[[], Any], timed: Mapping[str, Timed], effort: Effort) -> None:
    """Try kernels by the time of the whole network, and leave each block with the one that serves it best.

    A block alone does not feel what it does to its neighbours: weights that push
    theirs out of the cache, units that must wake up. Tried are one kernel for
    all blocks, then single changes, the costliest block first, while the budget
    lasts. A kernel that was alone more than half again as slow is not tried, and a
    block too small for the network to feel keeps the kernel that it chose alone.

    Args:
        fused: a fused graph with kernels set; they are changed.
        run: runs the network, neurons reset.
        timed: from `time_blocks`.
        effort: how long to measure.
    """
    blocks: dict[str, Any] = {name: fused.graph_module.get_submodule(name) for name in timed}
    best_s = {name: min(found.kernels.values()) for name, found in timed.items() if found.kernels}
    felt_s = _FELT * sum(best_s.values())
    near = {
        name: [k for k, s in found.kernels.items() if s <= 1.5 * best_s[name]]
        for name, found in timed.items()
        if len(found.kernels) > 1 and max(found.kernels.values()) >= felt_s
    }
    ends = time.perf_counter() + effort.model_budget_s

    def with_kernels(chosen: Mapping[str, str]) -> Callable[[], Any]:
        def call() -> Any:
            for name, kernel in chosen.items():
                blocks[name].kernel = kernel
            return run()

        return call

    def best(ways: Mapping[str, Mapping[str, str]]) -> str:
        left = max(0.0, ends - time.perf_counter())
        quick = replace(effort, budget_s=left)
        seconds = _seconds({way: with_kernels(chosen) for way, chosen in ways.items()}, quick, {})
        stay = next(iter(ways))
        found = min(seconds, key=lambda way: seconds[way], default=stay)
        return found if seconds.get(found, 0.0) * (1 + _FELT) < seconds.get(stay, float("inf")) else stay

    now = {name: str(blocks[name].kernel) for name in near}
    ways = {"chosen": now}
    for kernel in sorted({k for kernels in near.values() for k in kernels} - {"dense"}):
        ways[kernel] = {name: kernel if kernel in near[name] else now[name] for name in now}
    now = dict(ways[best(ways)]) if len(ways) > 1 else now
    for name in sorted(near, key=lambda name: -timed[name].kernels[now[name]]):
        for kernel in near[name]:
            if kernel != now[name] and time.perf_counter() < ends:
                ways = {"stay": now, kernel: {**now, name: kernel}}
                now = dict(ways[best(ways)])
    for name, kernel in now.items():
        blocks[name].kernel = kernel
    for block in blocks.values():
        if hasattr(block, "settle"):
            block.settle()


class _Tuner(fx.Interpreter):
    def __init__(
        self,
        fused: Fused,
        modules: Mapping[str, nn.Module],
        sites: Sequence[Site],
        workload: Workload,
        effort: Effort,
        memory: Memory,
        margin: float,
    ) -> None:
        super().__init__(fused.graph_module)
        self.fused, self.modules, self.workload = fused, modules, workload
        self.kernels = {site.name: site.kernels for site in sites}
        self.effort, self.memory, self.margin = effort, memory, margin
        self.timed: dict[str, Timed] = {}

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        block = self.fetch_attr(target)
        region = self.fused.blocks.get(str(target))
        if region is not None:
            self.timed[str(target)] = self.time(block, region, args)
        return super().call_module(target, args, kwargs)

    def time(self, block: Any, region: Region, args: tuple[Any, ...]) -> Timed:
        fns: dict[str, Callable[[], Any]] = {}
        if isinstance(block, ConvBlock | ConvNeuronBlock | DenseBlock):
            assert region.layer is not None
            extra = self.kernels.get(str(region.layer.target), ())
            for kernel in ("dense", *extra):
                fns[kernel] = self.with_kernel(block, kernel, args)
        else:
            fns["native"] = self.with_kernel(block, None, args)
        fns["original"] = self.original(block, region, args)
        failures: dict[str, str] = {}
        own = region.neuron if isinstance(block, NeuronBlock) else region.layer
        assert own is not None
        layer = self.workload.layer(str(own.target))
        times = self.memory.recall(layer, tuple(fns), type(block).__name__)
        if times is None:
            times = _seconds(fns, self.effort, failures)
            self.memory.keep(layer, times, type(block).__name__)
        original = times.pop("original", None)
        if "native" not in fns:
            block.kernel = choose_kernel(times, margin=self.margin)
        return Timed(kernels=times, original=original, failures=failures)

    def with_kernel(self, block: Any, kernel: str | None, args: tuple[Any, ...]) -> Callable[[], Any]:
        neuron = block._membrane.neuron if isinstance(block, ConvNeuronBlock | NeuronBlock) else None
        rest = None if neuron is None else neuron.v
        own = copy.copy(block)
        if kernel is not None:
            own.kernel = kernel

        def call() -> Any:
            if neuron is not None:
                neuron.v = rest
            result = own(*args)
            if neuron is not None:
                neuron.v = rest
            return result

        return call

    def original(self, block: Any, region: Region, args: tuple[Any, ...]) -> Callable[[], Any]:
        """Return a call of the modules that the block stands for, on floats."""
        x, *more = [unpack(a).contiguous() if isinstance(a, Spikes) else a for a in args]
        layer = self.of(region.layer) if not isinstance(block, NeuronBlock) else None
        bn = self.of(region.bn) if layer is not None else None
        neuron = self.of(region.neuron) if not isinstance(block, DenseBlock) else None
        repeat = self.of(region.repeat)
        rest = None if neuron is None else neuron.v

        def call() -> Any:
            y = x
            for module in (layer, bn):
                y = y if module is None else module(y)
            for other in more:
                y = y + other
            y = y if repeat is None else repeat(y)
            if neuron is not None:
                neuron.v = rest
                y = neuron(y)
                neuron.v = rest
            return y

        return call

    def of(self, node: fx.Node | None) -> Any:
        return None if node is None else self.modules[str(node.target)]
