"""Decide what of a traced graph can be packed: which nodes are words of spikes or counts, and what layers merge."""

import itertools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from sparseflow.compress.sparsify.fuse import carried_map, map_of_sizes
from sparseflow.compress.sparsify.regions import Facts, Region, emits_bits, is_add
from sparseflow.nn.layers import Repeat
from sparseflow.nn.stem_block import StemBlock
from sparseflow.trace import reads_no_values

__all__ = ["VIEWS", "LayerPlan", "Packing", "Policy", "is_view", "still_image"]

MAX_PLANES = 4
VIEWS = ("view", "reshape", "flatten")
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
class LayerPlan:
    """A region as it will be emitted: with its second source and what is added behind its neuron."""

    region: Region
    shortcut: Region | None = None
    add: fx.Node | None = None


class Packing:
    """What of a traced graph can be packed; `plan` finds it.

    Args:
        traced: the graph.
        facts: from `observe`.
        regions: from `find_regions` with `tokens`.
        policy: how to compute.

    Attributes:
        maps: channels, height and width of every node that has a packed form.
        tokens: nodes among them that are tokens, `[T, N, C, L]`.
        tops: the largest count in each of them.
        swapped: views of a neuron's spikes that become views of its currents.
        plans: layers that read packed spikes, by their last node.
        wanted: nodes that must exist packed.
    """

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
        self.tops: dict[fx.Node, int] = {}
        self.wanted: set[fx.Node] = set()
        self.plans: dict[fx.Node, LayerPlan] = {}

    def plan(self) -> list[fx.Node]:
        """Fill the attributes; return the nodes that are left to emit, in order."""
        absorbed = {n for region in self.regions.values() for n in region.absorbed}
        live = [n for n in self.traced.graph.nodes if n not in absorbed]
        for node in live:
            self.describe(node)
        hidden = self.merge(live)
        live = [n for n in live if n not in hidden]
        for node in reversed(live):
            self.mark(node)
        return live

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
        """Note the map of a node and the largest count in it; None leaves it unpacked."""
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
        if node.op not in ("call_function", "call_method") or name not in (*VIEWS, "contiguous") or node.kwargs:
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
        views = node.op in ("call_function", "call_method") and name in VIEWS and not node.kwargs
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
            self.plans[node] = LayerPlan(region=region, shortcut=shortcut)
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
            self.plans[node] = LayerPlan(region=waiting.region, shortcut=waiting.shortcut, add=counts)
            hidden.add(first)
        return hidden

    def is_conv(self, region: Region) -> bool:
        """Tell whether the layer of a region is a convolution."""
        assert region.layer is not None
        return isinstance(self.modules[str(region.layer.target)], nn.Conv2d | nn.Conv1d)

    def multi_step(self, region: Region) -> bool:
        """Tell whether the neuron of a region reads all steps at once."""
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

    def planes(self, node: fx.Node) -> int:
        """Return the bits of the largest count in a packed node."""
        return max(1, self.tops[node].bit_length())

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
        views = user.op in ("call_function", "call_method") and name in VIEWS
        return list(user.users) if views and shape[:3] == (self.facts[node].shape or ())[:3] else [user]

    def is_size(self, node: fx.Node) -> bool:
        """Tell whether a node is a size of the input, or a multiple of one."""
        return reads_no_values(node) or (
            node.target is operator.mul and all(self.is_size(n) for n in node.all_input_nodes)
        )

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


def is_view(node: fx.Node) -> bool:
    """Tell whether a node is a view of its first argument in another shape."""
    name = getattr(node.target, "__name__", str(node.target))
    return node.op in ("call_function", "call_method") and name in (*VIEWS, "unflatten")
