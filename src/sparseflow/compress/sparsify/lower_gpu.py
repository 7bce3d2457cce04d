"""Lower a traced graph to layers that read and write packed spikes and counts, for GPUs."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn

from sparseflow.compress.sparsify.fold import fold_bn
from sparseflow.compress.sparsify.fuse import (
    Fused,
    PackedTracer,
    flat_axes,
    neuron_constants,
    view_sizes,
)
from sparseflow.compress.sparsify.packing import LayerPlan, Packing, Policy, is_view, still_image
from sparseflow.compress.sparsify.regions import Facts, Region, find_regions, is_add
from sparseflow.errors import UnsupportedError
from sparseflow.nn import spikes as packed
from sparseflow.nn.layers import Repeat
from sparseflow.nn.sparse_conv import zeros_around
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spike_layer_block import FloatBlock, Part, SpikeLayerBlock
from sparseflow.nn.stem_block import StemBlock
from sparseflow.nn.stream_block import StreamBlock

__all__ = ["Policy", "lower_gpu"]

_IN_HALF = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.Flatten, nn.Identity, nn.Dropout, nn.ReLU)
_IN_HALF_TOO = frozenset(
    {
        "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose", "permute", "expand", "chunk",
        "getitem", "contiguous", "matmul", "mul", "sum",
    }
)  # fmt: skip


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


class _Lowering(Packing):
    def __init__(
        self,
        traced: fx.GraphModule,
        facts: Mapping[fx.Node, Facts],
        regions: Mapping[fx.Node, Region],
        policy: Policy,
    ) -> None:
        super().__init__(traced, facts, regions, policy)
        self.static: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.images: dict[fx.Node, fx.Node] = {}
        self.graph = fx.Graph(tracer_cls=PackedTracer)
        self.floats: dict[fx.Node, fx.Node] = {}
        self.halves: dict[fx.Node, fx.Node] = {}
        self.words: dict[fx.Node, fx.Node] = {}
        self.blocks: dict[str, nn.Module] = {}
        self.stands_for: dict[str, Region] = {}

    def run(self) -> Fused:
        for node in self.plan():
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
        elif self.emit_static(node):
            return
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
        ready = [n in self.halves or (n in self.static and n not in self.floats) for n in node.all_input_nodes]
        if not any(ready) or node in self.wanted:
            return False
        if not all(r or n in self.words or self.is_size(n) for r, n in zip(ready, node.all_input_nodes, strict=True)):
            return False
        if node.op == "call_module":
            return isinstance(self.modules[str(node.target)], _IN_HALF)
        return is_add(node) or getattr(node.target, "__name__", str(node.target)) in _IN_HALF_TOO

    def as_float(self, node: fx.Node) -> fx.Node:
        if node not in self.floats:
            if node in self.halves or node in self.static:
                self.as_half(node)
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
            elif node in self.floats:
                return self.floats[node]
            else:
                self.halves[node] = self.repeated(node)
        return self.halves[node]

    def repeated(self, node: fx.Node) -> fx.Node:
        """Emit the copies that a value which is the same at every step stands for."""
        still, steps = self.static[node]
        # Unlike an expanded view, copies laid end to end stay channels last.
        copies = self.graph.call_function(torch.cat, ([still] * steps,))
        if len(self.facts[node].shape or ()) == 4:
            return copies
        return self.graph.call_method("unflatten", (copies, 0, (steps, -1)))

    def emit_static(self, node: fx.Node) -> bool:
        """Emit a node whose value is the same at every step once; tell whether it is such a node and done.

        The repeat of an image itself is emitted for whoever reads it whole, too.
        """
        image, shape = still_image(node, self.facts), self.facts[node].shape or ()
        if image is not None and not self.policy.keep:
            self.static[node], self.images[node] = (self.as_half(image), shape[0]), image
            return False
        source: Any = node.args[0] if node.args else None
        if source not in self.static or node in self.wanted:
            return False
        still, steps = self.static[source]
        if node.op != "call_module":
            before = self.facts[source].shape or ()
            views = is_view(node) and before[-3:] == shape[-3:] and {len(before), len(shape)} == {4, 5}
            if views:
                self.static[node] = still, steps
                self.images.update({node: self.images[source]} if source in self.images else {})
            return views
        module = self.modules[str(node.target)]
        if not isinstance(module, nn.MaxPool2d | nn.AvgPool2d) or len(node.all_input_nodes) != 1 or node.kwargs:
            return False
        if getattr(module, "step_mode", "s") == "m":
            still = self.graph.call_method("unsqueeze", (still, 0))
            still = self.graph.call_method("squeeze", (self.graph.call_module(str(node.target), (still,)), 0))
        else:
            still = self.graph.call_module(str(node.target), (still,))
        self.static[node] = still, steps
        return True

    def unpacked(self, node: fx.Node, dtype: torch.dtype) -> fx.Node:
        """Emit the floats that packed spikes stand for."""
        made = self.graph.call_function(packed.unpack, (self.words[node], dtype))
        return self.graph.call_method("squeeze", (made, -1)) if node in self.tokens else made

    def emit_sum(self, node: fx.Node) -> fx.Node:
        pair = self.summands(node)
        assert pair is not None
        return self.graph.call_function(packed.add, (self.words[pair[0]], self.words[pair[1]], self.planes(node)))

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

    def emit_layer(self, node: fx.Node, plan: LayerPlan) -> None:
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
            current = self.as_half(region.source) if still is None else still[0]
            self.emit_neuron(node, region, current, static=still is not None)
            return
        if region.source in self.static and region.residual is None:
            self.emit_still(node, region)
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

    def emit_still(self, node: fx.Node, region: Region) -> None:
        """Emit a layer that reads the same at every step: it runs once."""
        assert region.layer is not None
        layer, (still, steps) = self.modules[str(region.layer.target)], self.static[region.source]
        image = self.images.get(region.source)
        if region.neuron is not None and image is not None and node in self.wanted and StemBlock.takes(layer):
            self.words[node] = self.emit_stem(region, self.as_float(image), self.steps(region))
            return
        block = FloatBlock(self.part(region, packed_input=False), dtype=self.policy.floats)
        made = self.call(block, region, "_layer" if region.neuron else "", [still])
        if region.neuron is not None:
            self.emit_neuron(node, region, made, static=True)
        else:
            self.static[node] = made, steps

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
