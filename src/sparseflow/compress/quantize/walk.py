"""Walk a traced graph: forwards from a value to the layers that read it, backwards to what makes it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import fx, nn

from sparseflow.compress.quantize.roles import Role, operation, role, writes_in_place

__all__ = ["Reach", "Walk"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What reads a value, in the order of the graph.

    Args:
        straight: convolutions and linear layers that read the values themselves.
        averaged: those that read averages of them.
        via: nodes on the way to a layer.
        beside: whatever else reads the values, the output among them.
    """

    straight: tuple[fx.Node, ...]
    averaged: tuple[fx.Node, ...]
    via: tuple[fx.Node, ...]
    beside: tuple[fx.Node, ...]

    @property
    def returned(self) -> bool:
        """Whether the model returns the values."""
        return any(node.op == "output" for node in self.beside)


class Walk:
    """The roles and the order of a graph's nodes, and the ways between them.

    Args:
        graph_module: traced in eval mode.

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.Dropout(), nn.Conv2d(1, 1, 1))
    >>> walk = Walk(fx.symbolic_trace(net))
    >>> relu = next(node for node in walk.roles if walk.roles[node] == "relu")
    >>> [walk.path(node) for node in (*walk.reach(relu).straight, walk.maker(relu))]
    ['3', '0']
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        self.modules: Mapping[str, nn.Module] = dict(graph_module.named_modules())
        self.roles: dict[fx.Node, Role] = {node: role(node, self.modules) for node in graph_module.graph.nodes}
        self._order = {node: i for i, node in enumerate(self.roles)}

    def path(self, node: fx.Node) -> str:
        """Return a module's dotted path, or the node's own name."""
        return str(node.target) if node.op == "call_module" else node.name

    def label(self, node: fx.Node) -> str:
        """Return a module's dotted path, or the scope and the operation of a function."""
        if node.op == "call_module":
            return str(node.target)
        scopes = [str(path) for path, _ in node.meta.get("nn_module_stack", {}).values()]
        name = operation(node, self.modules)
        return f"{scopes[-1]}.{name}" if scopes and scopes[-1] else name

    def reach(self, start: fx.Node) -> Reach:
        """Return what reads a value, directly or through nodes that carry, join or average it."""
        straight: set[fx.Node] = set()
        averaged: set[fx.Node] = set()
        passed: set[tuple[fx.Node, bool]] = set()
        beside: set[fx.Node] = set()
        todo = [(start, False)]
        while todo:
            node, mean = todo.pop()
            for user in node.users:
                found = self.roles[user]
                if found == "layer" and source(user) is node:
                    (averaged if mean else straight).add(user)
                elif found in ("carry", "join", "mean"):
                    step = (user, mean or found == "mean")
                    if step not in passed:
                        passed.add(step)
                        todo.append(step)
                elif found != "shape":
                    beside.add(user)
        via = self._on_the_way({node for node, _ in passed}, straight | averaged)
        return Reach(
            straight=self._ordered(straight),
            averaged=self._ordered(averaged),
            via=self._ordered(via),
            beside=self._ordered(beside),
        )

    def stale_reader(self, node: fx.Node) -> fx.Node | None:
        """Return a node that reads, under its old name, what `node` has overwritten in place."""
        before = source(node)
        if before is None or not writes_in_place(node, self.modules):
            return None
        later = [n for n in before.users if self._order[n] > self._order[node] and self.roles[n] != "shape"]
        return next(iter(self._ordered(later)), None)

    def maker(self, node: fx.Node) -> fx.Node | None:
        """Return what makes the input of `node`, norms and whatever carries values left out."""
        found = source(node)
        while found is not None and self.roles[found] in ("norm", "carry"):
            found = source(found)
        return found

    def layers_below(self, block: str) -> int:
        """Return how many calls of convolutions and linear layers lie below a dotted path."""
        inside = (n for n in self.roles if n.op == "call_module" and str(n.target).startswith(f"{block}."))
        return sum(self.roles[n] == "layer" for n in inside)

    def _on_the_way(self, passed: set[fx.Node], readers: set[fx.Node]) -> set[fx.Node]:
        kept: set[fx.Node] = set()
        for node in reversed(self._ordered(passed)):
            if any((user in readers and source(user) is node) or user in kept for user in node.users):
                kept.add(node)
        return kept

    def _ordered(self, nodes: Iterable[fx.Node]) -> tuple[fx.Node, ...]:
        return tuple(sorted(nodes, key=self._order.__getitem__))


def source(node: fx.Node) -> fx.Node | None:
    """Return the node that a node reads first, or None if that is no single value."""
    first = node.args[0] if node.args else node.kwargs.get("input")
    return first if isinstance(first, fx.Node) else None
