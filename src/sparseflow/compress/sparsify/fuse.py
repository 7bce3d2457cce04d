"""Rewrite a traced graph so that packed spikes flow along its edges between fused blocks."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.regions import Facts, Region, emits_bits, find_regions
from sparseflow.errors import UnsupportedError
from sparseflow.nn import spikes as packed
from sparseflow.nn.layers import Repeat
from sparseflow.nn.sparse_conv import zeros_around
from sparseflow.nn.spike_block import ConvBlock, ConvNeuronBlock, DenseBlock, NeuronBlock
from sparseflow.ops.lif import LIFParams
from sparseflow.trace import neuron_params

__all__ = ["Fused", "carried_map", "flat_axes", "fuse", "map_of_sizes", "neuron_constants", "view_sizes"]

_LEAVES = (
    packed.add, packed.average, packed.flatten, packed.pack, packed.pool, packed.regrid, packed.reshape, packed.unpack,
)  # fmt: skip
_SAME = ("contiguous", "detach")
_VIEWS = ("view", "reshape", "flatten")
Map = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A fused graph and what its blocks stand for.

    Args:
        graph_module: the graph; it shares the modules of the traced one.
        blocks: name of a block's module to the region that it stands for.
    """

    graph_module: fx.GraphModule
    blocks: dict[str, Region] = field(default_factory=dict)


def neuron_constants(neuron: nn.Module) -> LIFParams:
    """Return the constants of an IF, LIF or parametric LIF module.

    Raises:
        UnsupportedError: its maths is another.
    """
    found = neuron_params(neuron)
    if found is None:
        raise UnsupportedError(f"{type(neuron).__name__} is no IF, LIF or parametric LIF neuron")
    names = ("tau", "v_threshold", "v_reset", "decay_input")
    return LIFParams(kind="if" if found["kind"] == "if" else "lif", **{name: found[name] for name in names})


def fuse(
    traced: fx.GraphModule,
    facts: Mapping[fx.Node, Facts],
    kernels: Mapping[str, str],
    regions: Mapping[fx.Node, Region] | None = None,
) -> Fused:
    """Return a graph in which every region is one block and spikes stay packed between blocks.

    Args:
        traced: from `sparseflow.trace.capture`; left as it is, its modules are shared.
        facts: from `observe`.
        kernels: kernel by dotted path of the layer; "event" on packed spikes and
            "dense" elsewhere if a layer is not named.
        regions: from `find_regions`; found anew if None.
    """
    found = find_regions(traced, facts) if regions is None else regions
    return _Fuser(traced, facts, found, kernels).run()


class PackedTracer(fx.Tracer):
    """Traces the code of a fused graph, as loading a pickled one does; functions on packed spikes are leaves."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=_LEAVES)


class _Fuser:
    def __init__(
        self,
        traced: fx.GraphModule,
        facts: Mapping[fx.Node, Facts],
        regions: Mapping[fx.Node, Region],
        kernels: Mapping[str, str],
    ) -> None:
        self.traced, self.facts, self.regions, self.kernels = traced, facts, regions, kernels
        self.modules: dict[str, nn.Module] = dict(traced.named_modules())
        self.nodes = list(traced.graph.nodes)
        self.maps: dict[fx.Node, Map] = {}
        self.wanted: set[fx.Node] = set()
        self.graph = fx.Graph(tracer_cls=PackedTracer)
        self.floats: dict[fx.Node, fx.Node] = {}
        self.words: dict[fx.Node, fx.Node] = {}
        self.blocks: dict[str, nn.Module] = {}
        self.stands_for: dict[str, Region] = {}

    def run(self) -> Fused:
        absorbed = {n for region in self.regions.values() for n in region.absorbed}
        live = [n for n in self.nodes if n not in absorbed]
        for node in live:
            found = self.map_of(node)
            if found is not None:
                self.maps[node] = found
        for node in reversed(live):
            self.mark(node)
        for node in live:
            self.emit(node)
        named = {str(n.target) for n in self.graph.nodes if n.op in ("call_module", "get_attr")}
        root = {name: self.blocks.get(name) or operator.attrgetter(name)(self.traced) for name in named}
        made = fx.GraphModule(root, self.graph, class_name="FusedGraph")
        made.graph.eliminate_dead_code()
        made.delete_all_unused_submodules()
        made.recompile()
        made.eval()
        used = {str(n.target) for n in made.graph.nodes if n.op == "call_module"}
        return Fused(graph_module=made, blocks={k: v for k, v in self.stands_for.items() if k in used})

    def map_of(self, node: fx.Node) -> Map | None:
        """Return channels, height and width of the packed form of a node, or None if it has none."""
        shape = self.facts[node].shape
        if shape is None:
            return None
        region = self.regions.get(node)
        if region is not None:
            if region.neuron is None:
                return None
            leading = 2 if self.steps_lead(region) else 1
            rest = shape[leading:]
            return map_of_sizes(rest) if len(rest) in (1, 3) else None
        before = self.maps.get(node.args[0]) if node.args and isinstance(node.args[0], fx.Node) else None
        if before is None:
            module = self.modules.get(str(node.target)) if node.op == "call_module" else None
            if module is not None and emits_bits(module, self.facts[node]) and len(shape) in (4, 5):
                return map_of_sizes(shape[-3:])
            return None
        return carried_map(self.modules, self.facts, node, before)

    def steps_lead(self, region: Region) -> bool:
        assert region.neuron is not None
        return bool(self.modules[str(region.neuron.target)].step_mode == "m")

    def reads_words(self, region: Region) -> bool:
        """Tell whether the layer of a region can read packed spikes."""
        if region.layer is None or region.source not in self.maps:
            return False
        channels, height, width = self.maps[region.source]
        module = self.modules[str(region.layer.target)]
        shape = self.facts[region.source].shape or ()
        if isinstance(module, nn.Conv2d):
            return len(shape) in (4, 5) and module.in_channels == channels
        assert isinstance(module, nn.Linear)
        return len(shape) in (2, 3) and module.in_features == channels * height * width

    def mark(self, node: fx.Node) -> None:
        """Note what must exist packed because `node` reads it so."""
        region = self.regions.get(node)
        if region is not None:
            if self.reads_words(region):
                self.wanted.add(region.source)
        elif node in self.maps and node in self.wanted and node.args[0] in self.maps:
            assert isinstance(node.args[0], fx.Node)
            self.wanted.add(node.args[0])

    def emit(self, node: fx.Node) -> None:
        region = self.regions.get(node)
        if region is not None:
            self.emit_region(node, region)
        elif node in self.wanted and node.args and node.args[0] in self.words:
            self.words[node] = self.emit_carried(node)
        else:
            self.floats[node] = self.graph.node_copy(node, self.as_float)
            if node in self.wanted:
                self.words[node] = self.graph.call_function(packed.pack, (self.floats[node],))

    def as_float(self, node: fx.Node) -> fx.Node:
        if node not in self.floats:
            self.floats[node] = self.graph.call_function(packed.unpack, (self.words[node],))
        return self.floats[node]

    def emit_carried(self, node: fx.Node) -> fx.Node:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if isinstance(module, nn.MaxPool2d):
            args = (self.words[source], module.kernel_size, module.stride, module.padding)
            return self.graph.call_function(packed.pool, args)
        if isinstance(module, nn.Flatten):
            return self.graph.call_function(packed.flatten, (self.words[source], *flat_axes(module)))
        function, sizes = view_sizes(node, module, self.as_float)
        return (
            self.words[source] if function is None else self.graph.call_function(function, (self.words[source], *sizes))
        )

    def emit_region(self, node: fx.Node, region: Region) -> None:
        if region.layer is None:
            self.emit_neuron(node, region, self.as_float(region.source))
        elif not self.reads_words(region):
            made = self.emit_block(DenseBlock, region, self.as_float(region.source))
            if region.neuron is None:
                self.floats[node] = made
                return
            if region.residual is not None:
                made = self.graph.call_function(operator.add, (made, self.as_float(region.residual)))
            self.emit_neuron(node, region, made)
        elif region.neuron is None:
            self.floats[node] = self.emit_block(ConvBlock, region, self.words[region.source])
        else:
            inputs = [self.words[region.source]]
            if region.residual is not None:
                inputs.append(self.words.get(region.residual) or self.as_float(region.residual))
            self.words[node] = self.emit_block(ConvNeuronBlock, region, *inputs)

    def emit_neuron(self, node: fx.Node, region: Region, current: fx.Node) -> None:
        assert region.neuron is not None
        neuron = self.modules[str(region.neuron.target)]
        repeat = self.modules[str(region.repeat.target)] if region.repeat is not None else None
        steps = repeat.steps if isinstance(repeat, Repeat) else 0
        pack = node in self.wanted
        block = NeuronBlock(neuron, neuron_constants, packed=pack, repeat=steps)
        made = self.call(block, region, "", current)
        (self.words if pack else self.floats)[node] = made

    def emit_block(self, kind: type[nn.Module], region: Region, *inputs: fx.Node) -> fx.Node:
        assert region.layer is not None
        layer = self.modules[str(region.layer.target)]
        settings: dict[str, Any] = {"fold": fold_bn}
        if region.bn is not None:
            settings["bn"] = self.modules[str(region.bn.target)]
        if isinstance(layer, nn.Conv2d):
            settings["padding"] = zeros_around(layer)
        elif region.source in self.maps and kind is not DenseBlock:
            settings["size"] = self.maps[region.source][1:]
        settings["kernel"] = self.kernels.get(str(region.layer.target), "dense" if kind is DenseBlock else "event")
        if kind is ConvNeuronBlock:
            assert region.neuron is not None
            settings |= {"neuron": self.modules[str(region.neuron.target)], "constants": neuron_constants}
        return self.call(kind(layer, **settings), region, "_layer" if kind is DenseBlock else "", *inputs)

    def call(self, block: nn.Module, region: Region, suffix: str, *inputs: fx.Node) -> fx.Node:
        name = f"blocks.{region.name.replace('.', '_')}{suffix}"
        self.blocks[name] = block
        self.stands_for[name] = region
        return self.graph.create_node("call_module", name, inputs)


def map_of_sizes(sizes: tuple[int, ...]) -> Map:
    """Return channels, height and width of `(C, H, W)` or of `(K,)` features."""
    return (sizes[0], 1, 1) if len(sizes) == 1 else (sizes[0], sizes[1], sizes[2])


def carried_map(
    modules: Mapping[str, nn.Module], facts: Mapping[fx.Node, Facts], node: fx.Node, before: Map
) -> Map | None:
    """Return the map behind a node that keeps packed spikes packed, or None if it does not.

    Args:
        modules: the traced modules by dotted path.
        facts: from `observe`.
        node: reads first what has the map `before`.
        before: channels, height and width.
    """
    module = modules[str(node.target)] if node.op == "call_module" else None
    name = getattr(node.target, "__name__", str(node.target))
    source, shape = node.args[0], facts[node].shape or ()
    assert isinstance(source, fx.Node)
    flat = len(facts[source].shape or ()) < 4
    if isinstance(module, nn.MaxPool2d):
        plain = not (flat or module.return_indices or module.ceil_mode) and module.dilation in (1, (1, 1))
        return map_of_sizes(shape[-3:]) if plain else None
    if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d | nn.Dropout3d) or (
        module is None and name in _SAME and node.op != "get_attr"
    ):
        return before
    views = isinstance(module, nn.Flatten) or (module is None and name in _VIEWS)
    whole = shape[-3:] == before or shape[-1:] == (before[0] * before[1] * before[2],)
    return before if views and whole and not node.kwargs else None


def flat_axes(module: nn.Flatten) -> tuple[int, int]:
    """Return the first and the last axis that a module merges; SpikingJelly's does not count time in step mode "m".

    >>> flat_axes(nn.Flatten())
    (1, -1)
    """
    time = 1 if getattr(module, "step_mode", "s") == "m" else 0
    start, end = (axis + time if axis >= 0 else axis for axis in (module.start_dim, module.end_dim))
    return start, end


def view_sizes(
    node: fx.Node, module: nn.Module | None, value: Callable[[fx.Node], fx.Node]
) -> tuple[Callable[..., Any] | None, tuple[Any, ...]]:
    """Return the function on packed spikes that a node stands for, and its further arguments; None changes nothing.

    Args:
        node: a node that `carried_map` accepts, and no pool or `nn.Flatten`.
        module: what it calls, or None.
        value: gives a traced node's value in the new graph.
    """
    name = getattr(node.target, "__name__", str(node.target))
    if module is not None or name in _SAME:
        return None, ()
    rest: Any = fx.map_arg(node.args[1:], value)
    if name == "flatten":
        return packed.flatten, tuple(rest)
    return packed.reshape, tuple(rest[0] if len(rest) == 1 and isinstance(rest[0], list | tuple) else rest)
