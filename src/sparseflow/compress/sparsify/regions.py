"""Find what fuses in a traced graph: neurons with the convolution, normalisation and residual in front."""

import operator
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from sparseflow.compress.sparsify.fold import folds
from sparseflow.compress.sparsify.layers import is_pointwise, refuse_layer
from sparseflow.errors import UnsupportedError
from sparseflow.nn.layers import Repeat
from sparseflow.nn.sparse_conv import zeros_around
from sparseflow.trace import is_spike_source, neuron_params

__all__ = ["Facts", "Region", "emits_bits", "find_regions", "is_add", "observe"]

_ADDS = (operator.add, operator.iadd, torch.add, "add", "add_")


@dataclass(frozen=True, slots=True)
class Facts:
    """What a node made on the sample.

    Args:
        shape: shape of its tensor, or None if it made something else.
        binary: whether all its values were 0 or 1.
        density: fraction that was not 0.
    """

    shape: tuple[int, ...] | None = None
    binary: bool = False
    density: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Nodes that one block can stand for; its output is that of `head`.

    Args:
        head: the last node: the neuron, the normalisation, or the layer alone.
        neuron: the neuron, or None.
        layer: the convolution or linear layer, or None.
        bn: the normalisation behind the layer, or None.
        residual: what is added in front of the neuron, or None.
        repeat: the node that gives a static input its time axis, or None.
        fold: the node that merges steps and batch in front of the layer, to be split again behind it, or None.
        absorbed: nodes that exist no more once the block stands there.
    """

    head: fx.Node
    neuron: fx.Node | None = None
    layer: fx.Node | None = None
    bn: fx.Node | None = None
    residual: fx.Node | None = None
    repeat: fx.Node | None = None
    fold: fx.Node | None = None
    absorbed: tuple[fx.Node, ...] = ()

    @property
    def name(self) -> str:
        """Dotted path of the last module."""
        last = self.neuron or self.bn or self.layer or self.head
        return str(last.target)

    @property
    def source(self) -> fx.Node:
        """The node whose value the block reads first."""
        first = self.fold or self.layer or self.repeat or self.neuron
        assert first is not None
        arg = first.args[0]
        assert isinstance(arg, fx.Node)
        return arg


class _Observer(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.facts: dict[fx.Node, Facts] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and result.is_floating_point():
            binary = bool(((result == 0) | (result == 1)).all())
            density = float(torch.count_nonzero(result)) / max(result.numel(), 1)
            self.facts[n] = Facts(tuple(result.shape), binary, density)
        else:
            self.facts[n] = Facts()
        return result


def observe(graph_module: fx.GraphModule, args: tuple[Any, ...]) -> dict[fx.Node, Facts]:
    """Run a traced graph once and note the shape and the density of every value."""
    observer = _Observer(graph_module)
    observer.run(*args)
    return observer.facts


@dataclass(frozen=True, slots=True)
class _Chain:
    """A layer and its normalisation, with the views around them that merge and split steps and batch."""

    layer: fx.Node
    bn: fx.Node | None = None
    fold: fx.Node | None = None
    split: fx.Node | None = None

    def nodes(self) -> tuple[fx.Node, ...]:
        return tuple(n for n in (self.layer, self.bn, self.fold, self.split) if n is not None)


def find_regions(
    graph_module: fx.GraphModule, facts: Mapping[fx.Node, Facts], *, tokens: bool = False
) -> dict[fx.Node, Region]:
    """Return the regions of a traced graph by their head; no node is in two.

    Args:
        graph_module: from `sparseflow.trace.capture`.
        facts: from `observe`.
        tokens: also take convolutions of single tokens, and layers between two views that merge and split
            steps and batch.
    """
    modules = dict(graph_module.named_modules())
    called = Counter(id(modules[str(n.target)]) for n in graph_module.graph.nodes if n.op == "call_module")
    finder = _Finder(modules, called, facts, tokens)
    regions: dict[fx.Node, Region] = {}
    taken: set[fx.Node] = set()
    for node in graph_module.graph.nodes:
        region = finder.neuron_region(node)
        if region is not None:
            regions[node] = region
            taken.update(region.absorbed)
    # A view that ends a chain takes what is in front of it along.
    for node in sorted(graph_module.graph.nodes, key=lambda n: not finder.splits(n)):
        if node in taken or node in regions:
            continue
        region = finder.layer_region(node)
        if region is not None and not taken.intersection(region.absorbed):
            regions[node] = region
            taken.update(region.absorbed)
    return {node: region for node, region in regions.items() if node not in taken}


class _Finder:
    def __init__(
        self, modules: Mapping[str, nn.Module], called: Mapping[int, int], facts: Mapping[fx.Node, Facts], tokens: bool
    ) -> None:
        self.modules, self.called, self.facts, self.tokens = modules, called, facts, tokens

    def module(self, node: Any) -> nn.Module | None:
        """Return the module that a node calls with one tensor, if it calls it alone and nobody listens in."""
        if not isinstance(node, fx.Node) or node.op != "call_module" or len(node.args) != 1 or node.kwargs:
            return None
        module = self.modules[str(node.target)]
        if self.called[id(module)] > 1 or module._forward_hooks or module._forward_pre_hooks:
            return None
        return module if isinstance(node.args[0], fx.Node) and self.facts[node].shape is not None else None

    def neuron_region(self, node: fx.Node) -> Region | None:
        module = self.module(node)
        params = None if module is None else neuron_params(module)
        if module is None or params is None or not hasattr(module, "v") or params["step_mode"] not in ("s", "m"):
            return None
        if getattr(module, "step_mode", None) != params["step_mode"]:
            return None
        before = node.args[0]
        assert isinstance(before, fx.Node)
        repeat = before if isinstance(self.module(before), Repeat) and _alone(before) else None
        if repeat is not None:
            assert isinstance(repeat.args[0], fx.Node)
            static = len(self.facts[repeat].shape or ()) == len(self.facts[repeat.args[0]].shape or ()) + 1
            if params["step_mode"] == "m" and static:
                return Region(head=node, neuron=node, repeat=repeat, absorbed=(repeat,))
            return Region(head=node, neuron=node)
        rank = len(self.facts[node].shape or ())
        ranks = (5, 4, 3) if self.tokens else (5, 3)
        if rank not in (ranks if params["step_mode"] == "m" else (4, 2)):
            return Region(head=node, neuron=node)
        chain = self.layer_chain(before)
        if chain is not None:
            return self.behind(node, chain)
        joined = self.residual_chain(before)
        if joined is not None:
            chain, residual = joined
            return self.behind(node, chain, before, residual)
        return Region(head=node, neuron=node)

    def behind(
        self, neuron: fx.Node, chain: _Chain, sum: fx.Node | None = None, residual: fx.Node | None = None
    ) -> Region:
        absorbed = (*([sum] if sum else []), *chain.nodes())
        return Region(
            head=neuron, neuron=neuron, layer=chain.layer, bn=chain.bn, fold=chain.fold, residual=residual,
            absorbed=absorbed,
        )  # fmt: skip

    def layer_region(self, node: fx.Node) -> Region | None:
        chain = self.layer_chain(node, alone=False) if self.splits(node) else None
        if chain is not None:
            inside = (n for n in chain.nodes() if n is not node)
            return Region(head=node, layer=chain.layer, bn=chain.bn, fold=chain.fold, absorbed=tuple(inside))
        if self.normalises(node):
            layer = node.args[0]
            assert isinstance(layer, fx.Node)
            if self.is_layer(layer) and _alone(layer):
                return Region(head=node, layer=layer, bn=node, absorbed=(layer,))
        return Region(head=node, layer=node) if self.is_layer(node) else None

    def layer_chain(self, node: fx.Node, *, alone: bool = True) -> _Chain | None:
        """Return layer and normalisation if `node` is the end of such a chain that feeds one reader."""
        if alone and not _alone(node):
            return None
        split = node if self.splits(node) else None
        if split is not None:
            assert isinstance(split.args[0], fx.Node)
            node = split.args[0]
            if not _alone(node):
                return None
        layer: Any = node
        bn = node if self.normalises(node) else None
        if bn is not None:
            layer = bn.args[0]
            if not _alone(layer):
                return None
        if not isinstance(layer, fx.Node) or not self.is_layer(layer):
            return None
        if split is None:
            return _Chain(layer, bn)
        fold = layer.args[0]
        assert isinstance(fold, fx.Node)
        whole = self.folds(fold) and _alone(fold) and self.steps(fold.args[0]) == self.steps(split)
        return _Chain(layer, bn, fold, split) if whole else None

    def steps(self, node: Any) -> tuple[int, ...]:
        """Return steps and batch of a node whose first two axes they are."""
        return (self.facts[node].shape or ())[:2]

    def folds(self, node: fx.Node) -> bool:
        """Tell whether a node merges the first two axes of its input, and does nothing else."""
        inner = self.viewed(node)
        shape, before = self.facts[node].shape or (), self.facts[inner].shape or () if inner is not None else ()
        return len(before) >= 4 and shape == (before[0] * before[1], *before[2:])

    def splits(self, node: fx.Node) -> bool:
        """Tell whether a node splits the first axis of its input in two, and does nothing else."""
        inner = self.viewed(node)
        shape, before = self.facts[node].shape or (), self.facts[inner].shape or () if inner is not None else ()
        return self.tokens and len(shape) >= 4 and before == (shape[0] * shape[1], *shape[2:])

    def viewed(self, node: Any) -> fx.Node | None:
        """Return what a node views in another shape, or None if it is no view."""
        if not isinstance(node, fx.Node) or node.op not in ("call_function", "call_method"):
            return None
        name = getattr(node.target, "__name__", str(node.target))
        source = node.args[0] if name in ("view", "reshape", "flatten", "unflatten") and node.args else None
        return source if isinstance(source, fx.Node) else None

    def residual_chain(self, node: fx.Node) -> tuple[_Chain, fx.Node] | None:
        """Return layer, normalisation and the other operand if `node` adds such a chain to something."""
        if not is_add(node) or not _alone(node):
            return None
        operands = [a for a in node.args if isinstance(a, fx.Node)]
        if len(operands) != 2 or len(node.args) != 2 or operands[0] is operands[1]:
            return None
        if self.facts[operands[0]].shape is None or self.facts[operands[0]].shape != self.facts[operands[1]].shape:
            return None
        found = [(c, other) for a, other in (operands, operands[::-1]) if (c := self.layer_chain(a)) is not None]
        return max(found, key=lambda pair: self.work(pair[0].layer)) if found else None

    def work(self, node: fx.Node) -> int:
        module = self.modules[str(node.target)]
        return module.weight.numel() if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear) else 0

    def is_layer(self, node: fx.Node) -> bool:
        module = self.module(node)
        rank = len(self.facts[node].shape or ()) if module is not None else 0
        if module is not None and self.tokens and is_pointwise(module):
            return rank in (3, 4)
        if module is None or refuse_layer(module) is not None:
            return False
        if isinstance(module, nn.Conv2d):
            try:
                zeros_around(module)
            except UnsupportedError:
                return False
        return rank in ((4, 5) if isinstance(module, nn.Conv2d) else (2, 3))

    def normalises(self, node: fx.Node) -> bool:
        """Tell whether a node is a normalisation that folds into the layer in front of it."""
        module = self.module(node)
        if module is None or type(module).__name__ not in ("BatchNorm1d", "BatchNorm2d") or folds(module) is not None:
            return False
        layer = node.args[0]
        if not isinstance(layer, fx.Node) or not self.is_layer(layer):
            return False
        own = self.modules[str(layer.target)]
        conv = isinstance(own, nn.Conv2d)
        rank = len(self.facts[node].shape or ())
        if isinstance(own, nn.Conv1d):
            return rank in (3, 4)
        # BatchNorm1d on [A, B, K] takes B for the channels, unless it folds the time axis first.
        return rank in (4, 5) if conv else rank == 2


def _alone(node: fx.Node) -> bool:
    return len(node.users) == 1


def is_add(node: fx.Node) -> bool:
    """Tell whether a node is a plain addition."""
    return node.op in ("call_function", "call_method") and node.target in _ADDS and not node.kwargs


def emits_bits(module: nn.Module, facts: Facts) -> bool:
    """Tell whether a module's output can be packed: it spikes, and did so on the sample."""
    return is_spike_source(module) and facts.binary
