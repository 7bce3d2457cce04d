"""Symbolic trace with operators as leaves, kept only if it agrees with the recording."""

from typing import Any

from torch import fx, nn

from sparseflow.errors import CaptureError
from sparseflow.trace._record import is_leaf
from sparseflow.trace.graph import Call

NO_TENSOR_ATTRIBUTES = frozenset(
    {"shape", "ndim", "dtype", "device", "layout", "is_cuda", "is_sparse", "is_quantized", "requires_grad", "training"}
)
NO_TENSOR_METHODS = frozenset(
    {
        "size", "dim", "numel", "nelement", "stride", "element_size", "ndimension", "is_floating_point", "is_complex",
        "is_contiguous", "storage_offset", "get_device",
    }
)  # fmt: skip

__all__ = [
    "NO_TENSOR_ATTRIBUTES",
    "NO_TENSOR_METHODS",
    "LeafTracer",
    "as_module",
    "edges_of_calls",
    "edges_of_graph",
    "leaf_trace",
    "reads_no_values",
]

Edges = frozenset[tuple[str, str]]


class LeafTracer(fx.Tracer):
    """Traces through user code, stopping at spiking neurons, memory modules and torch's own layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether `m` stays one node."""
        return is_leaf(m)


def leaf_trace(model: nn.Module) -> fx.GraphModule:
    """Trace a model symbolically; the result shares the model's modules.

    `nn.Identity` leaves no node: it returns the very tensor that it was given, so
    that a recording cannot tell which of the two a reader took.

    Raises:
        CaptureError: the model's Python reads values or shapes of tensors.
    """
    try:
        return as_module(model, LeafTracer().trace(model))
    except Exception as e:
        raise CaptureError(f"symbolic trace of {type(model).__name__} failed: {type(e).__name__}: {e}") from e


def as_module(model: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    """Return a module that runs a traced graph of a model, without its identities."""
    for node in [n for n in graph.nodes if n.op == "call_module" and n.args]:
        if type(model.get_submodule(str(node.target))) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    return fx.GraphModule(model, graph)


def edges_of_graph(graph: fx.Graph) -> Edges:
    """Return every (module, next module) pair of a traced graph, functions passed through."""
    reach: dict[fx.Node, frozenset[str]] = {}
    edges: set[tuple[str, str]] = set()
    for node in graph.nodes:
        behind: frozenset[str] = frozenset().union(*(reach[n] for n in node.all_input_nodes))
        if node.op == "placeholder":
            behind = frozenset({""})
        elif node.op == "call_module":
            edges.update((name, str(node.target)) for name in behind)
            behind = frozenset({str(node.target)})
        elif reads_no_values(node):
            behind = frozenset()
        reach[node] = behind
    return frozenset(edges)


def reads_no_values(node: fx.Node) -> bool:
    """Tell whether a node asks a tensor for its shape or type, which is no edge between tensors."""
    if node.op == "call_method":
        return node.target in NO_TENSOR_METHODS
    return node.target is getattr and len(node.args) > 1 and node.args[1] in NO_TENSOR_ATTRIBUTES


def edges_of_calls(calls: tuple[Call, ...]) -> Edges:
    """Return every (module, next module) pair of a recording, functions and identities passed through."""
    reach: list[frozenset[str]] = []
    edges: set[tuple[str, str]] = set()
    for call in calls:
        behind: frozenset[str] = frozenset().union(*(reach[i] for i, _ in call.inputs))
        if call.kind == "input":
            behind = frozenset({""})
        elif call.kind == "module" and call.target and call.op != "identity":
            edges.update((name, call.target) for name in behind)
            behind = frozenset({call.target})
        reach.append(behind)
    return frozenset(edges)


def describe_difference(traced: Edges, recorded: Edges) -> str:
    """Name one edge that only one of two graphs has."""
    extra: Any = sorted(traced ^ recorded)
    before, after = extra[0]
    return f"{before or 'input'} -> {after} is in only one of the traced and the recorded graph"
