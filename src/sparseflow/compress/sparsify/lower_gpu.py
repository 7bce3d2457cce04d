"""Lower a traced graph to layers that read and write packed spikes and counts, for GPUs."""

import itertools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.fuse import (
    Fused,
    PackedTracer,
    carried_map,
    flat_axes,
    map_of_sizes,
    neuron_constants,
    view_sizes,
)
from sparseflow.compress.sparsify.regions import Facts, Region, emits_bits, find_regions, is_add
from sparseflow.errors import UnsupportedError
from sparseflow.nn import spikes as packed
from sparseflow.nn.layers import Repeat
from sparseflow.nn.sparse_conv import zeros_around
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spike_layer_block import FloatBlock, Part, SpikeLayerBlock
from sparseflow.nn.stem_block import StemBlock
from sparseflow.nn.stream_block import StreamBlock
from sparseflow.trace import reads_no_values

__all__ = ["Policy", "lower_gpu", "still_image"]

MAX_PLANES = 4
_IN_HALF = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.ReLU)
_IN_HALF_TOO = frozenset(
    {
        "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose", "permute", "expand", "chunk",
        "getitem", "contiguous", "matmul", "mul", "sum",
    }
)  # fmt: skip
_VIEWS = ("view", "reshape", "flatten")
Map = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a lowered graph computes.

    Args:
        precision: "fp16"; "exact": weights of 22 bits for spikes and float32 elsewhere; or "int8": as "fp16", but
            weights for spikes may be rounded to 8 bits.
        kernel: of every spike layer, until they are tuned.
        keep: read and write the neurons' states; else every call starts at rest and leaves none.
    """

    precision: str = "fp16"
    kernel: str = "dense"
    keep: bool = False

    @property
    def floats(self) -> torch.dtype:
        """Type of what is not packed."""
        return torch.float32 if self.precision == "exact" else torch.float16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A region as it will be emitted: with its second source and what is added behind its neuron."""

    region: Region
    shortcut: Region | None = None
    add: fx.Node | None = None


def lower_gpu(
    traced: fx.GraphModule,
    facts: Mapping[fx.Node, Facts],
    policy: Policy,
    regions: Mapping[fx.Node, Region] | None = None,
) -> Fused:
    """Return a graph of packed layers; spikes and their counts stay bits wherever a layer reads them so.

    A residual in front of a neuron joins the layer as packed identity, or as a
    second convolution; spikes added behind a neuron (SEW) become counts in bit
    planes, whose number follows from the graph. What is not packed runs in
    `policy.floats` between our own layers, and as the model has it elsewhere.

    Args:
        traced: from `sparseflow.trace.capture`; left as it is, its modules are shared.
        facts: from `observe`.
        policy: how to compute.
        regions: from `find_regions` with `tokens`; found anew if None.
    """
    found = find_regions(traced, facts, tokens=True) if regions is None else regions
    return _Lowering(traced, facts, found, policy).run()


class _Lowering:
    def __init__(
        self,
        traced: fx.GraphModule,
        facts: Mapping[fx.Node, Facts],
        regions: Mapping[fx.Node, Region],
        policy: Policy,
    ) -> None:
        self.traced, self.facts, self.regions, self.policy = traced, facts, dict(regions), policy
        self.modules: dict[str, nn.Module] = dict(traced.named_modules())
        self.maps: dict[fx.Node, Map] = {}
        self.tokens: set[fx.Node] = set()
        self.swapped: dict[fx.Node, Region] = {}
        self.static: dict[fx.Node, fx.Node] = {}
        self.tops: dict[fx.Node, int] = {}
        self.wanted: set[fx.Node] = set()
        self.plans: dict[fx.Node, _Plan] = {}
        self.graph = fx.Graph(tracer_cls=PackedTracer)
        self.floats: dict[fx.Node, fx.Node] = {}
        self.halves: dict[fx.Node, fx.Node] = {}
        self.words: dict[fx.Node, fx.Node] = {}
        self.blocks: dict[str, nn.Module] = {}
        self.stands_for: dict[str, Region] = {}

    def run(self) -> Fused:
        absorbed = {n for region in self.regions.values() for n in region.absorbed}
        live = [n for n in self.traced.graph.nodes if n not in absorbed]
        for node in live:
            self.describe(node)
        hidden = self.merge(live)
        live = [n for n in live if n not in hidden]
        for node in reversed(live):
            self.mark(node)
        for node in live:
            self.emit(node)
        named = {str(n.target) for n in self.graph.nodes if n.op in ("call_module", "get_attr")}
        root = {name: self.blocks.get(name) or operator.attrgetter(name)(self.traced) for name in named}
        made = fx.GraphModule(root, self.graph, class_name="PackedGraph")
        made.graph.eliminate_dead_code()
        made.delete_all_unused_submodules()
        made.recompile()
        made.eval()
        used = {str(n.target) for n in made.graph.nodes if n.op == "call_module"}
        if not any(isinstance(made.get_submodule(name), SpikeLayerBlock) for name in used & self.stands_for.keys()):
            raise UnsupportedError("no convolution or linear layer in the traced graph reads spikes that can be packed")
        return Fused(graph_module=made, blocks={k: v for k, v in self.stands_for.items() if k in used})

    def describe(self, node: fx.Node) -> None:
        """Note the map of a node's packed form and the largest count in it, if it has such a form."""
        shape = self.facts[node].shape
        if shape is None:
            return
        region = self.regions.get(node)
        if region is not None:
            if region.neuron is not None:
                rest = shape[2 if self.multi_step(region) else 1 :]
                if len(rest) == 2 and self.multi_step(region):
                    self.note_tokens(node, rest, 1)
                else:
                    self.note(node, map_of_sizes(rest) if len(rest) in (1, 3) else None, 1)
            return
        pair = self.summands(node)
        if pair is not None:
            top = sum(self.tops[n] for n in pair)
            if top < 2**MAX_PLANES and self.maps[pair[0]] == self.maps[pair[1]]:
                self.note(node, self.maps[pair[0]], top)
                self.tokens.update({node} if pair[0] in self.tokens else ())
            return
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and source in self.maps:
            if self.regrids(node, source):
                self.note_tokens(node, shape[2:], self.tops[source])
            elif self.commutes(node, source):
                self.swapped[node] = self.regions[source]
                self.note_tokens(node, shape[2:], 1)
            elif source not in self.tokens:
                self.note(node, carried_map(self.modules, self.facts, node, self.maps[source]), self.tops[source])
        elif isinstance(source, fx.Node) and self.commutes(node, source):
            self.swapped[node] = self.regions[source]
            self.note_tokens(node, shape[2:], 1)
        elif node.op == "call_module":
            module = self.modules[str(node.target)]
            if emits_bits(module, self.facts[node]) and len(shape) in (4, 5):
                self.note(node, map_of_sizes(shape[-3:]), 1)

    def note(self, node: fx.Node, sizes: Map | None, top: int) -> None:
        if sizes is not None:
            self.maps[node], self.tops[node] = sizes, top

    def note_tokens(self, node: fx.Node, rest: tuple[int, ...], top: int) -> None:
        """Note the map of steps of `[C, L]` tokens, or of pixels again."""
        if len(rest) == 2:
            self.tokens.add(node)
        self.note(node, (rest[0], rest[1], 1) if len(rest) == 2 else map_of_sizes(rest), top)

    def regrids(self, node: fx.Node, source: fx.Node) -> bool:
        """Tell whether a node views pixels as tokens, or tokens as pixels or as they are."""
        name = getattr(node.target, "__name__", str(node.target))
        if node.op not in ("call_function", "call_method") or name not in (*_VIEWS, "contiguous") or node.kwargs:
            return False
        before, shape = self.facts[source].shape or (), self.facts[node].shape or ()
        if len(before) < 4 or before[:3] != shape[:3] or not self.multi_lead(source):
            return False
        return len(shape) == 4 or (source in self.tokens and len(shape) == 5)

    def commutes(self, node: fx.Node, source: fx.Node) -> bool:
        """Tell whether a node views the spikes of a neuron of its own in another shape, as the currents could be."""
        region, before, shape = self.regions.get(source), self.facts[source].shape or (), self.facts[node].shape or ()
        if region is None or region.layer is not None or region.repeat is not None or self.policy.keep:
            return False
        if not self.multi_step(region):
            return False
        name = getattr(node.target, "__name__", str(node.target))
        views = node.op in ("call_function", "call_method") and name in _VIEWS and not node.kwargs
        return views and len(source.users) == 1 and len(shape) in (4, 5) and before[:2] == shape[:2] and before != shape

    def multi_lead(self, source: fx.Node) -> bool:
        """Tell whether the first two axes of a packed node are steps and batch."""
        shape = self.facts[source].shape or ()
        return source in self.tokens or (len(shape) == 5 and shape[2:] == self.maps[source])

    def summands(self, node: fx.Node) -> tuple[fx.Node, fx.Node] | None:
        """Return the two packed operands of a plain addition of one shape."""
        operands = [a for a in node.args if isinstance(a, fx.Node) and a in self.maps]
        if not is_add(node) or len(node.args) != 2 or len(operands) != 2:
            return None
        same = self.facts[operands[0]].shape == self.facts[operands[1]].shape == self.facts[node].shape
        return (operands[0], operands[1]) if same else None

    def merge(self, live: list[fx.Node]) -> set[fx.Node]:
        """Plan every layer with its shortcut and its sum; return the nodes that exist no more."""
        hidden: set[fx.Node] = set()
        for node in live:
            region = self.regions.get(node)
            if region is None or not self.reads_words(region):
                continue
            shortcut = None
            if region.neuron is not None and region.residual is not None and region.residual not in self.maps:
                other = self.regions.get(region.residual)
                if other is not None and other.neuron is None and len(region.residual.users) == 1:
                    shortcut = (
                        other if self.reads_words(other) and self.is_conv(other) == self.is_conv(region) else None
                    )
            if shortcut is not None:
                hidden.add(shortcut.head)
            self.plans[node] = _Plan(region=region, shortcut=shortcut)
        for node in live:
            pair = self.summands(node) if node in self.maps and node not in self.regions else None
            able = [n for n in pair or () if n in self.plans and n in self.regions and len(n.users) == 1]
            able = [n for n in able if self.regions[n].neuron is not None]
            if pair is None or not able or pair[0] is pair[1]:
                continue
            # Of two branches that end in neurons, the longer one, seen last, waits for the other.
            first = max(able, key=live.index)
            waiting = self.plans.pop(first)
            counts = pair[1] if first is pair[0] else pair[0]
            self.plans[node] = _Plan(region=waiting.region, shortcut=waiting.shortcut, add=counts)
            hidden.add(first)
        return hidden

    def is_conv(self, region: Region) -> bool:
        assert region.layer is not None
        return isinstance(self.modules[str(region.layer.target)], nn.Conv2d | nn.Conv1d)

    def multi_step(self, region: Region) -> bool:
        assert region.neuron is not None
        return bool(self.modules[str(region.neuron.target)].step_mode == "m")

    def reads_words(self, region: Region) -> bool:
        """Tell whether the layer of a region can read packed spikes, its residual too."""
        if region.layer is None or region.source not in self.maps:
            return False
        channels, height, width = self.maps[region.source]
        module = self.modules[str(region.layer.target)]
        shape = self.facts[region.source].shape or ()
        if isinstance(module, nn.Conv1d):
            return region.source in self.tokens and module.in_channels == channels
        if region.source in self.tokens:
            return False
        if isinstance(module, nn.Conv2d):
            return len(shape) in (4, 5) and module.in_channels == channels and module.groups == 1
        assert isinstance(module, nn.Linear)
        return len(shape) in (2, 3) and module.in_features == channels * height * width

    def mark(self, node: fx.Node) -> None:
        """Note what must exist packed because `node` reads it so."""
        plan = self.plans.get(node)
        if plan is not None:
            read = [plan.region.source, plan.region.residual, plan.add]
            if plan.shortcut is not None:
                read.append(plan.shortcut.source)
            self.wanted.update(n for n in read if n is not None and n in self.maps)
        elif node in self.regions:
            return
        elif node in self.wanted and node not in self.swapped:
            self.wanted.update(self.summands(node) or [n for n in node.all_input_nodes[:1] if n in self.maps])
        elif self.averages(node):
            assert isinstance(node.args[0], fx.Node)
            self.wanted.add(node.args[0])

    def averages(self, node: fx.Node) -> bool:
        """Tell whether a node is the global average pool of something packed."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        return (
            isinstance(module, nn.AdaptiveAvgPool2d)
            and module.output_size in (1, (1, 1))
            and node.args[0] in self.maps
            and len(self.facts[node].shape or ()) in (4, 5)
        )

    def emit(self, node: fx.Node) -> None:
        if node in self.plans:
            self.emit_layer(node, self.plans[node])
        elif node in self.words:
            # A neuron that was emitted with the sum that it reads.
            return
        elif node in self.regions:
            self.emit_dense(node, self.regions[node])
        elif node in self.wanted and node in self.swapped:
            self.emit_swapped(node, self.swapped[node])
        elif node in self.wanted and self.summands(node) is not None:
            self.words[node] = self.emit_sum(node)
        elif node in self.wanted and node.args and node.args[0] in self.words:
            self.words[node] = self.emit_carried(node)
        elif self.averages(node) and node.args[0] in self.words:
            source = node.args[0]
            assert isinstance(source, fx.Node)
            self.floats[node] = self.graph.call_function(packed.average, (self.words[source],))
        elif self.in_half(node):
            reader = self.stream_reader(node)
            if reader is None:
                self.halves[node] = self.graph.node_copy(node, self.as_half)
            else:
                self.emit_stream(node, reader)
        else:
            self.floats[node] = self.graph.node_copy(node, self.as_float)
            if node in self.wanted:
                self.words[node] = self.graph.call_function(packed.pack, (self.floats[node],))

    def stream_reader(self, node: fx.Node) -> Region | None:
        """Return the neuron that reads a sum of floats, makes packed spikes, and can be run with the addition."""
        shapes = [self.facts[a].shape if isinstance(a, fx.Node) else None for a in node.args]
        if self.policy.keep or not is_add(node) or shapes != [self.facts[node].shape] * 2:
            return None
        for user in itertools.chain.from_iterable(self.readers(node, n) for n in node.users):
            region = self.regions.get(user)
            if region is None or region.layer is not None or region.repeat is not None or user not in self.wanted:
                continue
            if user is region.neuron and len(shapes[0] or ()) in (4, 5) and self.multi_step(region):
                return region
        return None

    def readers(self, node: fx.Node, user: fx.Node) -> list[fx.Node]:
        """Return a user of a node, or the users of it where it views pixels as tokens, or tokens as pixels."""
        shape, name = self.facts[user].shape or (), getattr(user.target, "__name__", str(user.target))
        views = user.op in ("call_function", "call_method") and name in _VIEWS
        return list(user.users) if views and shape[:3] == (self.facts[node].shape or ())[:3] else [user]

    def emit_stream(self, node: fx.Node, region: Region) -> None:
        """Emit a sum of floats together with a neuron that reads it."""
        assert region.neuron is not None
        block = StreamBlock(self.modules[str(region.neuron.target)], neuron_constants)
        first, second = (self.as_half(a) for a in node.all_input_nodes * (2 // len(node.all_input_nodes)))
        made = self.call(block, region, "", [first, second])
        words = self.graph.call_function(operator.getitem, (made, 0))
        if self.facts[node].shape != self.facts[region.head].shape:
            words = self.graph.call_function(packed.regrid, (words, *self.maps[region.head][1:]))
        self.words[region.head] = words
        self.halves[node] = self.graph.call_function(operator.getitem, (made, 1))

    def in_half(self, node: fx.Node) -> bool:
        """Tell whether a node computes well in the policy's type, and reads what our own layers made in it."""
        if not any(n in self.halves for n in node.all_input_nodes) or node in self.wanted:
            return False
        if not all(n in self.halves or n in self.words or self.is_size(n) for n in node.all_input_nodes):
            return False
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], _IN_HALF)
        return is_add(node) or getattr(node.target, "__name__", str(node.target)) in _IN_HALF_TOO

    def is_size(self, node: fx.Node) -> bool:
        """Tell whether a node is a size of the input, or a multiple of one."""
        return reads_no_values(node) or (
            node.target is operator.mul and all(self.is_size(n) for n in node.all_input_nodes)
        )

    def as_float(self, node: fx.Node) -> fx.Node:
        if node not in self.floats:
            if node in self.halves:
                self.floats[node] = self.graph.call_method("float", (self.halves[node],))
            else:
                self.floats[node] = self.unpacked(node, torch.float32)
        return self.floats[node]

    def as_half(self, node: fx.Node) -> fx.Node:
        """Return the value in the policy's type."""
        if self.is_size(node):
            return self.floats[node]
        if node not in self.halves:
            if node in self.words:
                self.halves[node] = self.unpacked(node, self.policy.floats)
            else:
                return self.floats[node]
        return self.halves[node]

    def unpacked(self, node: fx.Node, dtype: torch.dtype) -> fx.Node:
        """Emit the floats that packed spikes stand for."""
        made = self.graph.call_function(packed.unpack, (self.words[node], dtype))
        return self.graph.call_method("squeeze", (made, -1)) if node in self.tokens else made

    def emit_sum(self, node: fx.Node) -> fx.Node:
        pair = self.summands(node)
        assert pair is not None
        return self.graph.call_function(packed.add, (self.words[pair[0]], self.words[pair[1]], self.planes(node)))

    def planes(self, node: fx.Node) -> int:
        return max(1, self.tops[node].bit_length())

    def emit_carried(self, node: fx.Node) -> fx.Node:
        source = node.args[0]
        assert isinstance(source, fx.Node)
        words = self.words[source]
        module = self.modules[str(node.target)] if node.op == "call_module" else None
        if self.regrids(node, source):
            return self.graph.call_function(packed.regrid, (words, *self.maps[node][1:]))
        if isinstance(module, nn.MaxPool2d):
            return self.graph.call_function(packed.pool, (words, module.kernel_size, module.stride, module.padding))
        if isinstance(module, nn.Flatten):
            return self.graph.call_function(packed.flatten, (words, *flat_axes(module)))
        function, sizes = view_sizes(node, module, self.as_float)
        return words if function is None else self.graph.call_function(function, (words, *sizes))

    def emit_layer(self, node: fx.Node, plan: _Plan) -> None:
        """Emit a layer that reads packed spikes, with all that was merged into it."""
        region = plan.region
        parts = [self.part(region)]
        inputs: list[fx.Node | None] = [self.words[region.source], None, None, None]
        if plan.shortcut is not None:
            parts.append(self.part(plan.shortcut))
            inputs[1] = self.words[plan.shortcut.source]
        settings: dict[str, Any] = {}
        residual = region.residual if plan.shortcut is None else None
        if residual is not None and residual in self.words:
            inputs[2], residual = self.words[residual], None
            settings["identity"] = self.planes(region.residual)  # type: ignore[arg-type]
        if region.neuron is None:
            self.halves[node] = self.emit_block(parts, region, "", inputs, settings)
            return
        if residual is not None:
            current = self.emit_block(parts, region, "_layer", inputs, settings)
            summed = self.graph.call_function(operator.add, (current, self.as_half(residual)))
            self.emit_neuron(region.head, region, summed, pack=plan.add is not None)
            if plan.add is not None:
                sums = (self.words[region.head], self.words[plan.add], self.planes(node))
                self.words[node] = self.graph.call_function(packed.add, sums)
            return
        if plan.add is not None:
            inputs[3] = self.words[plan.add]
            settings["out_planes"] = self.planes(node)
        settings |= {"neuron": self.modules[str(region.neuron.target)], "constants": neuron_constants}
        self.words[node] = self.emit_block(parts, region, "", inputs, settings)

    def emit_dense(self, node: fx.Node, region: Region) -> None:
        """Emit a region that reads floats."""
        if region.layer is None:
            stem = self.stem(node, region)
            if stem is not None:
                self.words[node] = self.emit_stem(stem, self.as_float(stem.source), self.steps(stem))
                return
            still = self.static.get(region.source)
            self.emit_neuron(node, region, self.as_half(region.source) if still is None else still, static=bool(still))
            return
        image = still_image(region.source, self.facts)
        if image is not None and not self.policy.keep and region.residual is None:
            self.emit_still(node, region, image)
            return
        layer = self.modules[str(region.layer.target)]
        block = FloatBlock(self.part(region, packed_input=False), dtype=self.policy.floats)
        if isinstance(layer, nn.Linear) and region.neuron is None and region.source not in self.halves:
            # A classifier: small, and its logits are wanted in full.
            block = FloatBlock(self.part(region, packed_input=False), dtype=torch.float32)
            self.floats[node] = self.call(block, region, "", [self.as_float(region.source)])
            return
        made = self.call(block, region, "_layer" if region.neuron else "", [self.as_half(region.source)])
        if region.neuron is None:
            self.halves[node] = made
            return
        if region.residual is not None:
            made = self.graph.call_function(operator.add, (made, self.as_half(region.residual)))
        self.emit_neuron(node, region, made)

    def stem(self, node: fx.Node, region: Region) -> Region | None:
        """Return the region of the image's convolution and the neuron that reads it at every step, if it is one."""
        front = self.regions.get(region.source)
        if self.policy.keep or node not in self.wanted or front is None or front.layer is None:
            return None
        repeat = self.modules[str(region.repeat.target)] if region.repeat is not None else None
        plain = front.neuron is None and front.residual is None and region.residual is None
        images = len(self.facts[front.source].shape or ()) == 4 and front.source not in self.maps
        if not plain or not images or not isinstance(repeat, Repeat):
            return None
        layer = self.modules[str(front.layer.target)]
        return replace(region, layer=front.layer, bn=front.bn) if StemBlock.takes(layer) else None

    def emit_still(self, node: fx.Node, region: Region, image: fx.Node) -> None:
        """Emit a layer that reads one image at every step: it runs once."""
        layer = self.modules[str(region.layer.target)] if region.layer is not None else None
        if region.neuron is not None and node in self.wanted and StemBlock.takes(layer):
            self.words[node] = self.emit_stem(region, self.as_float(image), self.steps(region))
            return
        block = FloatBlock(self.part(region, packed_input=False), dtype=self.policy.floats)
        made = self.call(block, region, "_layer" if region.neuron else "", [self.as_half(image)])
        if region.neuron is not None:
            self.emit_neuron(node, region, made, static=True)
            return
        self.static[node] = made
        shape = (self.steps(region), *[-1] * (len(self.facts[node].shape or ()) - 1))
        self.halves[node] = self.graph.call_method("expand", (self.graph.call_method("unsqueeze", (made, 0)), *shape))

    def steps(self, region: Region) -> int:
        """Return the number of steps of a region's output."""
        repeat = self.modules[str(region.repeat.target)] if region.repeat is not None else None
        return repeat.steps if isinstance(repeat, Repeat) else (self.facts[region.head].shape or (0,))[0]

    def emit_stem(self, region: Region, image: fx.Node, steps: int) -> fx.Node:
        assert region.neuron is not None
        part, neuron = self.part(region, packed_input=False), self.modules[str(region.neuron.target)]
        return self.call(StemBlock(part, neuron, neuron_constants, repeat=steps), region, "", [image])

    def emit_neuron(
        self, node: fx.Node, region: Region, current: fx.Node, *, pack: bool = False, static: bool = False
    ) -> None:
        assert region.neuron is not None
        neuron = self.modules[str(region.neuron.target)]
        steps = self.steps(region) if static or region.repeat is not None else 0
        pack = pack or node in self.wanted
        block = NeuronBlock(neuron, neuron_constants, packed=pack, repeat=steps, keep=self.policy.keep)
        made = self.call(block, region, "", [current])
        (self.words if pack else self.halves)[node] = made

    def emit_swapped(self, node: fx.Node, region: Region) -> None:
        """Emit a view of spikes as a view of the currents, and the neuron behind it."""
        args = (self.as_half(region.source), *fx.map_arg(node.args[1:], self.as_half))
        current = self.graph.create_node(node.op, node.target, args)
        block = NeuronBlock(self.modules[str(region.neuron.target)], neuron_constants, keep=self.policy.keep)  # type: ignore[union-attr]
        self.words[node] = self.call(block, region, "", [current])

    def part(self, region: Region, *, packed_input: bool = True) -> Part:
        assert region.layer is not None
        layer = self.modules[str(region.layer.target)]
        settings: dict[str, Any] = {"fold": fold_bn}
        if region.bn is not None:
            settings["bn"] = self.modules[str(region.bn.target)]
        if isinstance(layer, nn.Conv2d):
            settings["padding"] = zeros_around(layer)
        if packed_input:
            settings["planes"] = self.planes(region.source)
            if isinstance(layer, nn.Linear):
                settings["size"] = self.maps[region.source][1:]
        return Part(layer, **settings)

    def emit_block(
        self, parts: list[Part], region: Region, suffix: str, inputs: list[fx.Node | None], settings: dict[str, Any]
    ) -> fx.Node:
        policy = self.policy
        settings = {"precision": policy.precision, "kernel": policy.kernel, "floats": policy.floats, **settings}
        block = SpikeLayerBlock(parts, keep=policy.keep, **settings)
        while inputs[-1] is None:
            inputs = inputs[:-1]
        return self.call(block, region, suffix, inputs)

    def call(self, block: nn.Module, region: Region, suffix: str, inputs: list[Any]) -> fx.Node:
        name = f"blocks.{region.name.replace('.', '_')}{suffix}"
        self.blocks[name] = block
        self.stands_for[name] = region
        return self.graph.create_node("call_module", name, tuple(inputs))


def still_image(node: fx.Node, facts: Mapping[fx.Node, Facts]) -> fx.Node | None:
    """Return the image `[N, C, H, W]` that a node repeats at every step, as `[T, N, C, H, W]`; None if it does not.

    Args:
        node: of a traced graph.
        facts: from `observe`.
    """
    if node.op != "call_method" or node.target not in ("repeat", "expand") or node.kwargs:
        return None
    one = node.args[0]
    sizes = node.args[1] if len(node.args) == 2 and isinstance(node.args[1], tuple | list) else node.args[1:]
    keeps = (1,) if node.target == "repeat" else (-1,)
    if len(sizes) != 5 or any(n not in keeps for n in sizes[1:]):
        return None
    if not isinstance(one, fx.Node) or one.target not in ("unsqueeze", torch.unsqueeze) or one.args[1:] != (0,):
        return None
    image = one.args[0]
    return image if isinstance(image, fx.Node) and len(facts[image].shape or ()) == 4 else None
