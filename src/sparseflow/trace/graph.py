"""Capture: what a model computed on a sample, as nodes with true edges."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import fx

from sparseflow.errors import CaptureError

__all__ = ["Call", "Capture", "Node", "Weight"]

Ref = tuple[int, int]
"""A tensor: the index of the call that made it, and which of its outputs it is."""


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer that a call read.

    Args:
        shape: its shape.
        dtype: its type, as "float32".
        density: fraction of non-zero elements, or None if it has none or is not plain.
    """

    shape: tuple[int, ...]
    dtype: str
    density: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One execution of a leaf module or a function.

    Args:
        index: position in execution order.
        node: name of the node that this call belongs to.
        kind: "input", "constant", "module", "function" or "output".
        op: operator stem, as "conv2d", "add", "lif".
        target: dotted module path, or the function's name.
        inputs: tensors it read, in argument order, weights left out.
        input_shapes: shape of each of `inputs`.
        output_shapes: shape of each tensor it made.
        nonzero: non-zero elements of each tensor it made.
        values: what each tensor it made holds: "spikes" (only 0 and 1), "counts"
            (only non-negative integers) or "any".
        dtypes: type of each tensor it made, as "float32".
        attrs: operator attributes.
        params: parameters and buffers it read, by name.
        source: whether its first output comes from a spiking neuron.
        written: whether it wrote into its first input.
        site: name of the first node at the same place in the code.
    """

    index: int
    node: str
    kind: str
    op: str
    target: str
    inputs: tuple[Ref, ...]
    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    nonzero: tuple[int, ...]
    values: tuple[str, ...]
    dtypes: tuple[str, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Weight] = field(default_factory=dict)
    source: bool = False
    written: bool = False
    site: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """All calls of one leaf module, or of one place in the code of a forward.

    Args:
        name: unique; a module's dotted path, or scope and operator of a function.
        target: dotted module path, or the function's name.
        kind: "input", "constant", "module", "function" or "output".
        op: operator stem.
        inputs: names of the nodes it reads, in argument order.
        input_shapes: shapes that its first call read.
        output_shapes: shapes that its first call made.
        attrs: operator attributes.
        params: parameters and buffers by name.
        calls: how often it ran in one forward; time steps of a loop.
        shared: whether its calls read from different places of the model.
        density: fraction of non-zero elements of its first output, over all calls.
        source: whether it is a spiking neuron.
        values: what its first output held over all calls: "spikes", "counts" or "any".
    """

    name: str
    target: str
    kind: str
    op: str
    inputs: tuple[str, ...] = ()
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Weight] = field(default_factory=dict)
    calls: int = 1
    shared: bool = False
    density: float | None = None
    source: bool = False
    values: str = "any"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Capture:
    """A model's graph on one sample.

    Args:
        how: "fx" (a traced graph that agrees with the recorded one) or "record".
        model: name of the model's class.
        nodes: in order of first execution.
        calls: every execution, in order.
        graph_module: the traced graph, or None; it shares the model's modules.
        notes: what the user should know, one sentence each.
        sample_shapes: shapes of the tensors of the sample.
        writes_sample: the model wrote into its input, so that a second run on it would see another one.
        graph_shapes: shapes of the inputs that the traced graph holds for, None in place of a size that may be any;
            None where it holds for all.
    """

    how: str
    model: str
    nodes: tuple[Node, ...]
    calls: tuple[Call, ...]
    graph_module: fx.GraphModule | None = None
    notes: tuple[str, ...] = ()
    sample_shapes: tuple[tuple[int, ...], ...] = ()
    writes_sample: bool = False
    graph_shapes: tuple[tuple[int | None, ...], ...] | None = None
    _index: dict[str, Node] = field(default_factory=dict, repr=False)
    _users: dict[str, tuple[str, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Index the nodes and their consumers."""
        users: dict[str, list[str]] = {node.name: [] for node in self.nodes}
        for node in self.nodes:
            self._index[node.name] = node
            for name in dict.fromkeys(node.inputs):
                users[name].append(node.name)
        self._users.update((name, tuple(readers)) for name, readers in users.items())

    def __iter__(self) -> Iterator[Node]:
        """Iterate over the nodes."""
        return iter(self.nodes)

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.nodes)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a node of this name."""
        return name in self._index

    def node(self, name: str) -> Node:
        """Return the node of this name; a module's name is its dotted path.

        Raises:
            CaptureError: the model ran no such node on the sample.
        """
        try:
            return self._index[name]
        except KeyError:
            raise CaptureError(f"{self.model} ran no node {name!r} on the sample") from None

    def producers(self, node: Node | str) -> tuple[Node, ...]:
        """Return the nodes that this one reads, in argument order."""
        node = self.node(node) if isinstance(node, str) else node
        return tuple(self.node(name) for name in node.inputs)

    def consumers(self, node: Node | str) -> tuple[Node, ...]:
        """Return the nodes that read this one, in execution order."""
        name = node if isinstance(node, str) else node.name
        self.node(name)
        return tuple(self.node(user) for user in self._users[name])

    @property
    def sources(self) -> tuple[Node, ...]:
        """The spiking neurons that ran."""
        return tuple(node for node in self.nodes if node.source)
