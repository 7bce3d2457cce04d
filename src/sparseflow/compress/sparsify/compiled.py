"""A lowered graph whose packed layers stay what they are, and what runs between them is fused by inductor."""

from typing import Any

import torch
from torch import fx, nn

from sparseflow.nn._stamp import stamp
from sparseflow.nn.spike_block import NeuronBlock
from sparseflow.nn.spike_layer_block import FloatBlock, SpikeLayerBlock
from sparseflow.nn.stem_block import StemBlock
from sparseflow.nn.stream_block import StreamBlock

__all__ = ["CompiledGraph", "glue"]

_BLOCKS = (SpikeLayerBlock, StemBlock, FloatBlock, NeuronBlock, StreamBlock)
_FREE = frozenset(
    {
        "view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "transpose", "permute", "expand", "chunk",
        "getitem", "getattr", "pool", "pack", "unpack", "contiguous", "average", "regrid", "size",
    }
)  # fmt: skip


def glue(graph: nn.Module) -> int:
    """Return how many nodes of a lowered graph compute something outside of packed layers.

    Args:
        graph: the module of a `Fused` graph.

    >>> glue(fx.symbolic_trace(nn.Sequential(nn.ReLU(), nn.Tanh())))
    2
    """
    if not isinstance(graph, fx.GraphModule):
        return 0
    count = 0
    for node in graph.graph.nodes:
        if node.op == "call_module":
            count += not isinstance(graph.get_submodule(str(node.target)), _BLOCKS)
        elif node.op in ("call_function", "call_method"):
            count += getattr(node.target, "__name__", str(node.target)) not in _FREE
    return count


class CompiledGraph(nn.Module):
    """Runs a graph of packed layers through `torch.compile`.

    Compiled code takes the weights as they were packed last; where those behind them
    were changed, the graph runs once as it is, which packs them anew.

    Args:
        graph: the graph; it becomes the one child.
        backend: of `torch.compile`.
    """

    def __init__(self, graph: nn.Module, *, backend: str = "inductor") -> None:
        super().__init__()
        self.graph = graph
        self._call = (torch.compile(graph, dynamic=False, backend=backend),)
        self._made: tuple[int, ...] = ()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the graph returns."""
        now = stamp(*[t for block in self.graph.modules() if isinstance(block, _BLOCKS) for t in self._behind(block)])
        if now != self._made:
            self.graph(*args, **kwargs)
            self._made = now
        return self._call[0](*args, **kwargs)

    def forget(self) -> None:
        """Pack the weights again at the next call, whether a change of them was noticed or not."""
        self._made = ()

    @staticmethod
    def _behind(block: Any) -> list[torch.Tensor | None]:
        if isinstance(block, NeuronBlock | StreamBlock):
            return [*block._membrane.neuron._parameters.values()]
        found: list[torch.Tensor | None] = block.behind()
        return found
