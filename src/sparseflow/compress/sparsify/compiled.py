"""A lowered graph whose packed layers run as they are, while inductor fuses what runs between them."""

from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.split_module import split_module

from sparseflow.nn import spikes as packed
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spike_layer_block import FloatBlock, SpikeLayerBlock
from sparseflow.nn.stem_block import StemBlock
from sparseflow.nn.stream_block import StreamBlock

__all__ = ["CompiledGraph", "glue"]

_BLOCKS = (SpikeLayerBlock, StemBlock, FloatBlock, NeuronBlock, StreamBlock)
_PACKED = frozenset(getattr(packed, name) for name in packed.__all__ if name != "Spikes")
_FREE = frozenset(
    {
        "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose", "permute", "expand", "chunk",
        "unbind", "getitem", "getattr", "contiguous", "size",
    }
)  # fmt: skip


def glue(graph: nn.Module) -> int:
    """Return how many nodes of a lowered graph compute something outside of packed layers.

    Args:
        graph: the module of a `Fused` graph.

    >>> glue(fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Tanh())))
    2
    """
    if not isinstance(graph, fx.GraphModule):
        return 0
    return sum(_kind(graph, node) == "glue" for node in graph.graph.nodes)


class CompiledGraph(nn.Module):
    """Runs a graph of packed layers, each run of other nodes through `torch.compile`.

    Layers stay outside of what is compiled, so that they see changes of their weights as ever.

    Args:
        graph: the graph; it becomes the one child.
        backend: of `torch.compile`.
    """

    def __init__(self, graph: fx.GraphModule, *, backend: str = "inductor") -> None:
        super().__init__()
        self.graph = graph
        # In a tuple, so that it is no child: its modules are those of the graph.
        self._call = (_divided(graph, backend),)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the graph returns."""
        return self._call[0](*args, **kwargs)


def _kind(graph: fx.GraphModule, node: fx.Node) -> str:
    """Return "layer" for what is packed or a layer of our own, "glue" for what computes, and "" for the rest."""
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        return "layer" if isinstance(module, _BLOCKS) else "" if isinstance(module, nn.Flatten | nn.Dropout) else "glue"
    if node.op not in ("call_function", "call_method"):
        return ""
    if node.target in _PACKED:
        return "layer"
    return "" if getattr(node.target, "__name__", str(node.target)) in _FREE else "glue"


def _divided(graph: fx.GraphModule, backend: str) -> fx.GraphModule:
    """Return the graph as alternating pieces of layers and of glue, the latter compiled."""
    pieces: dict[fx.Node, int] = {}
    compiled: set[int] = set()
    number, current = 0, "layer"
    for node in graph.graph.nodes:
        kind = _kind(graph, node) or current
        number, current = number + (kind != current), kind
        pieces[node] = number
        if kind == "glue":
            compiled.add(number)
    made = split_module(graph, graph, lambda node: pieces[node], keep_original_order=True)
    for name, piece in list(made.named_children()):
        if name.startswith("submod_") and int(name.removeprefix("submod_")) in compiled:
            made.add_module(name, torch.compile(piece, dynamic=False, backend=backend))  # type: ignore[arg-type]
    return made
