"""A trace along a sample, made to hold for batches of any size."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map_only

from sparseflow.errors import CaptureError
from sparseflow.trace._shape_tracer import shape_trace
from sparseflow.trace._state import quiet
from sparseflow.trace._tensors import tensors_in

__all__ = ["Shape", "batch_trace"]

Shape = tuple[int | None, ...]
"""Sizes of a tensor; None where any will do."""


class _DiffersError(Exception):
    """Two traces are not one, read at two sizes of the batch."""


def batch_trace(
    model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[fx.GraphModule, tuple[Shape, ...]]:
    """Trace a model along a sample, and again along a larger batch; what grows with it is read from the input.

    Two traces that differ in whole multiples of the batch alone are one for every batch, if the result gives what
    the model gives on the larger one too. Else the trace holds for the sample's shapes.

    Args:
        model: in eval mode; its states are left as they were.
        args: positional arguments of the forward.
        kwargs: keyword arguments.

    Returns:
        The graph, which shares the model's modules, and the shapes of the tensors in `(args, kwargs)` that it holds
        for.

    Raises:
        CaptureError: as for `shape_trace`.
    """
    with quiet(model):
        traced = shape_trace(model, *_copies(args, kwargs))
    given = list(tensors_in((args, kwargs)))
    exact: tuple[Shape, ...] = tuple(tuple(t.shape) for t in given)
    sizes = {t.shape[_axis(t)] for t in given if t.dim() > 1}
    if len(sizes) != 1 or not all(t.dim() > 1 for t in given) or 0 in sizes:
        return traced, exact
    batch = sizes.pop()
    try:
        larger = _larger(args, kwargs)
        with quiet(model):
            other = shape_trace(model, *_copies(*larger))
        first = next(n for n in traced.graph.nodes if n.op == "placeholder")
        axis = _axis(args[0] if args else kwargs[str(first.target)])
        graph = _for_any_batch(traced.graph, other.graph, batch, first, axis)
        with quiet(model), torch.no_grad():
            moved, params = _copies(*larger)
            want = list(tensors_in(model(*moved, **params)))
        general = fx.GraphModule(traced, graph)
        with quiet(model), torch.no_grad():
            moved, params = _copies(*larger)
            made = list(tensors_in(general(*moved, **params)))
        if len(made) != len(want) or not all(map(torch.equal, made, want)):
            raise _DiffersError
    except (_DiffersError, CaptureError, RuntimeError):
        return traced, exact
    return general, tuple((*s[: _axis(t)], None, *s[_axis(t) + 1 :]) for s, t in zip(exact, given, strict=True))


def _axis(x: Tensor) -> int:
    """Return the axis of the batch: behind the steps of a sequence of images."""
    return 1 if x.dim() == 5 else 0


def _copies(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    made: tuple[Any, Any] = tree_map_only(Tensor, torch.clone, (args, dict(kwargs)))
    return made


def _larger(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    def grown(x: Tensor) -> Tensor:
        return torch.cat([x, x.narrow(_axis(x), 0, 1)], _axis(x))

    made: tuple[Any, Any] = tree_map_only(Tensor, grown, (args, dict(kwargs)))
    return made


def _for_any_batch(graph: fx.Graph, other: fx.Graph, batch: int, source: fx.Node, axis: int) -> fx.Graph:
    """Return a copy of a graph in which numbers that grow with the batch are multiples of the input's size.

    Args:
        graph: of a batch of `batch`.
        other: of a batch of one more.
        batch: images.
        source: placeholder of `graph` to read the size of the batch from.
        axis: where it is.

    Raises:
        _DiffersError: the graphs differ in more than that.
    """
    if len(graph.nodes) != len(other.nodes):
        raise _DiffersError
    made = fx.Graph()
    copies: dict[Any, fx.Node] = {}
    multiples: dict[int, fx.Node] = {}
    twins: dict[Any, Any] = dict(zip(other.nodes, graph.nodes, strict=True))

    def size(factor: int) -> fx.Node:
        if 1 not in multiples:
            multiples[1] = made.call_method("size", (copies[source], axis))
        if factor not in multiples:
            multiples[factor] = made.call_function(operator.mul, (multiples[1], factor))
        return multiples[factor]

    def joined(a: Any, b: Any) -> Any:
        if isinstance(a, fx.Node):
            if twins.get(b) is not a:
                raise _DiffersError
            return copies[a]
        if type(a) is not type(b):
            raise _DiffersError
        if isinstance(a, tuple | list):
            if len(a) != len(b):
                raise _DiffersError
            return (tuple if isinstance(a, tuple) else list)(joined(x, y) for x, y in zip(a, b, strict=True))
        if isinstance(a, dict):
            if a.keys() != b.keys():
                raise _DiffersError
            return {k: joined(a[k], b[k]) for k in a}
        if isinstance(a, slice):
            return slice(joined(a.start, b.start), joined(a.stop, b.stop), joined(a.step, b.step))
        if a == b:
            return a
        if type(a) is int and a % batch == 0 and b == a // batch * (batch + 1):
            return size(a // batch)
        raise _DiffersError

    node: Any
    for node, b in zip(graph.nodes, other.nodes, strict=True):
        a: fx.Node = node
        if (a.op, a.target) != (b.op, b.target):
            raise _DiffersError
        args, kwargs = joined(tuple(a.args), tuple(b.args)), joined(dict(a.kwargs), dict(b.kwargs))
        copies[a] = made.create_node(a.op, a.target, args, kwargs, a.name, a.type)
    made.lint()
    return made
