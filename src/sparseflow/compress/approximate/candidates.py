"""Runs an integer network for many candidates at once and computes what they have in common only once."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparseflow.compress.quantize import IntegerNet
from sparseflow.compress.quantize.byte_layer import ByteLayer, max_pool
from sparseflow.compress.quantize.integer_ops import IntegerCat, IntegerInput, IntegerLayer, IntegerMean, IntegerSum
from sparseflow.compress.quantize.lowering import edit_at, rows
from sparseflow.errors import ConfigError
from sparseflow.ops.triseg import apply_tables

__all__ = ["CandidateNet", "Shared"]

Tap = Callable[[str, Tensor, Tensor | None], None]
"""Called with the name of a point, its codes `[U·N, ...]`, and the class 0..U−1 of each candidate `[K]`, or None where
each candidate has its own."""

_ON_BYTES = (rows, operator.getitem)
_POOL_ARGUMENTS = ("input", "kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the images alone decide: the values in front of the first point.

    Args:
        images: how many.
        values: by node.
    """

    images: int
    values: Mapping[fx.Node, Any]


@dataclass(frozen=True, slots=True)
class _Value:
    """A value for the classes of candidates that differ up to a level; level −1 has no images."""

    level: int
    data: Any


class CandidateNet:
    """An integer network ready for tables at some of its points.

    Behind the first j points only candidates that differ in the tables of these j are told apart: those that begin
    alike share their layers. A lookup in front of a max-pool is done behind it, which is the same as tables never
    decrease. Codes are uint8, channels last. Codes and outputs are those of `IntegerNet.forward`, bit for bit.

    Args:
        net: the network.
        points: the points that get tables, in order of execution.
        taps: points whose codes in front of their tables are shown.
        share: False tells all candidates apart everywhere, so that all shapes are known beforehand.

    Raises:
        ConfigError: a point that the network does not have, or not in this order.
    """

    def __init__(self, net: IntegerNet, points: Sequence[str], *, taps: Sequence[str] = (), share: bool = True) -> None:
        order = list(net.points)
        places = [order.index(net.point(name).name) for name in points]
        if places != sorted(set(places)) or not points:
            raise ConfigError(f"points are {', '.join(points) or 'none'}; name each once, in the order of the network")
        for name in taps:
            net.point(name)
        self.net, self.points, self.taps, self.share = net, tuple(points), frozenset(taps), share
        graph = net.graph
        self._modules = dict(graph.named_modules())
        self._nodes = list(graph.graph.nodes)
        self._calls = {name: _byte_form(module) for name, module in self._modules.items()}
        self._pools = {node: pool for node in self._nodes if (pool := _max_pool(node, self._modules)) is not None}
        self._behind = self._pools_behind()
        self._first = {node for node in self._nodes if self._is_shared(node)}
        # Pools whose lookup comes behind them, which can be run once where their input can.
        self._ready = {n for n in self._behind if all(i in self._first for i in n.all_input_nodes)}
        self._last = self._uses()

    @torch.no_grad()
    def begin(self, *inputs: Tensor) -> Shared:
        """Return what images decide in front of the first point.

        Args:
            inputs: as of the network, `[N, ...]`.
        """
        kept = {read for node in self._nodes if node not in self._first for read in node.all_input_nodes} | self._ready
        run = _Run(self, len(inputs[0]), None, None)
        given = iter(inputs)
        for node in self._nodes:
            if node.op == "placeholder":
                run.env[node] = _Value(0, next(given, None))
            elif node in self._first:
                run.step(node)
            elif node in self._ready:
                run.env[node] = run.call(node)
        return Shared(images=len(inputs[0]), values={n: v for n, v in run.env.items() if n in kept})

    @torch.no_grad()
    def run(self, shared: Shared, tables: Tensor, tap: Tap | None = None) -> Tensor:
        """Return the outputs of the network for every candidate.

        Args:
            shared: from `begin`.
            tables: uint8 `[K, points, 256]` that never decrease and leave 0 at 0, on any device.
            tap: is shown the codes of the taps.

        Returns:
            `[K, N, ...]`.

        Raises:
            ConfigError: tables of another shape or type.
        """
        if tables.dtype != torch.uint8 or tables.ndim != 3 or tables.shape[1:] != (len(self.points), 256):
            raise ConfigError(
                f"tables are {tables.dtype} {tuple(tables.shape)}; expected uint8 [K, {len(self.points)}, 256]"
            )
        run = _Run(self, shared.images, tables, tap)
        run.env.update(shared.values)
        for node in self._nodes:
            if node.op == "output":
                return run.output(node)
            if node.op != "placeholder" and node not in self._first:
                run.step(node)
                for old in self._last.get(node, ()):
                    run.env.pop(old, None)
        raise AssertionError("a graph has an output")

    def _pools_behind(self) -> dict[fx.Node, str]:
        """Return the max-pools that alone read what a point's tables change, and the point."""
        found: dict[fx.Node, str] = {}
        for node in self._nodes:
            if node.target is edit_at and node.args[2] in self.points and len(node.users) == 1:
                reader = next(iter(node.users))
                if reader in self._pools:
                    found[reader] = str(node.args[2])
        return found

    def _is_shared(self, node: fx.Node) -> bool:
        seen: set[fx.Node] = set()
        todo = [node]
        while todo:
            n = todo.pop()
            if n.op == "output" or n in self._behind or (n.target is edit_at and self._edits(n) is not None):
                return False
            if n.target is edit_at and n.args[2] in self.taps:
                return False
            todo += [i for i in n.all_input_nodes if i not in seen]
            seen.update(n.all_input_nodes)
        return node.op != "placeholder"

    def _edits(self, node: fx.Node) -> str | None:
        """Return the point whose tables are applied at a node."""
        if node in self._behind:
            return self._behind[node]
        if node.target is not edit_at or node.args[2] not in self.points or node.args[2] in self._behind.values():
            return None
        return str(node.args[2])

    def _uses(self) -> dict[fx.Node, list[fx.Node]]:
        """Return the nodes whose value nobody reads behind a node."""
        last: dict[fx.Node, fx.Node] = {}
        for node in self._nodes:
            for read in node.all_input_nodes:
                last[read] = node
        out: dict[fx.Node, list[fx.Node]] = {}
        for read, node in last.items():
            out.setdefault(node, []).append(read)
        return out


class _Run:
    """One pass through the graph: values by node, and which candidates are alike up to each point."""

    def __init__(self, owner: CandidateNet, images: int, tables: Tensor | None, tap: Tap | None) -> None:
        self.owner, self.images, self.tap = owner, images, tap
        self.env: dict[fx.Node, _Value] = {}
        if tables is not None:
            device = next(owner.net.buffers()).device
            self.classes = _Classes(tables.cpu(), owner.share, device)
            self.tables = tables.to(device)

    def step(self, node: fx.Node) -> None:
        """Compute the value of one node."""
        owner = self.owner
        if node.target is edit_at:
            assert isinstance(node.args[0], fx.Node)
            value, name = self.env[node.args[0]], str(node.args[2])
            if name in owner.taps and self.tap is not None:
                self.tap(name, value.data, self.classes.of_candidates(value.level))
        else:
            value = self.env[node] if node in owner._ready else self.call(node)
        point = owner._edits(node)
        self.env[node] = value if point is None else self.edited(value, owner.points.index(point) + 1)

    def call(self, node: fx.Node) -> _Value:
        """Run a module, function or method on values of one level."""
        if node.op == "get_attr":
            return _Value(-1, operator.attrgetter(str(node.target))(self.owner.net.graph))
        level = max((self.env[n].level for n in node.all_input_nodes), default=-1)

        def given(n: fx.Node) -> Any:
            value = self.env[n]
            return value.data if value.level < 0 else self.at(value, level)

        args: Any = fx.map_arg(node.args, given)
        kwargs: Any = fx.map_arg(node.kwargs, given)
        if node in self.owner._pools:
            codes = next(iter((*args, *kwargs.values())))
            pool = self.owner._pools[node]
            return _Value(level, max_pool(codes, pool) if codes.dtype == torch.uint8 else pool(codes))
        if node.op == "call_module":
            return _Value(level, self.owner._calls[str(node.target)](*args, **kwargs))
        if node.target not in _ON_BYTES:
            args, kwargs = (torch.utils._pytree.tree_map(_floats, a) for a in (args, kwargs))
        if node.op == "call_method":
            return _Value(level, getattr(args[0], str(node.target))(*args[1:], **kwargs))
        assert callable(node.target)
        return _Value(level, node.target(*args, **kwargs))

    def at(self, value: _Value, level: int) -> Any:
        """Return a value for the classes of a higher level."""
        if value.level == level or not isinstance(value.data, Tensor):
            return value.data
        index = self.classes.between(value.level, level)
        return value.data if index is None else _pick(value.data, index, self.images)

    def edited(self, value: _Value, level: int) -> _Value:
        """Apply the tables of a point."""
        members = self.classes.members(level)
        tables = self.tables[:, level - 1] if members is None else self.tables[members, level - 1]
        alone = self.classes.count(value.level) == 1
        codes = value.data if alone else self.at(value, level)
        return _Value(level, apply_tables(codes, tables, shared=alone).flatten(0, 1))

    def output(self, node: fx.Node) -> Tensor:
        """Return the network's output, one for each candidate."""
        found = node.args[0]
        assert isinstance(found, fx.Node)
        value = self.env[found]
        data: Tensor = value.data.unflatten(0, (-1, self.images))
        index = self.classes.of_candidates(value.level)
        return data if index is None else data[index]


class _Classes:
    """Which candidates are alike up to each point; found on the CPU, so that a GPU need not be waited for."""

    def __init__(self, tables: Tensor, share: bool, device: torch.device) -> None:
        self.device = device
        count, points, _ = tables.shape
        each = tuple(range(count))
        # By level: the class of each candidate, and the first candidate of each class.
        self._of: list[tuple[int, ...]] = [(0,) * count]
        self._first: list[tuple[int, ...]] = [each[:1]]
        rows = tables.numpy() if share else None
        for j in range(points):
            if rows is None:
                self._of.append(each)
                self._first.append(each)
                continue
            known: dict[tuple[int, bytes], int] = {}
            keys = [(self._of[-1][k], rows[k, j].tobytes()) for k in each]
            found = tuple(known.setdefault(key, len(known)) for key in keys)
            self._of.append(found)
            self._first.append(tuple(found.index(c) for c in range(len(known))))

    def count(self, level: int) -> int:
        """Return the number of classes."""
        return len(self._first[level])

    def of_candidates(self, level: int) -> Tensor | None:
        """Return the class of each candidate, `[K]`, or None where each has its own, in order."""
        return self._index(self._of[level], self.count(level))

    def members(self, level: int) -> Tensor | None:
        """Return a candidate of each class, or None where each candidate is one, in order."""
        return self._index(self._first[level], len(self._of[level]))

    def between(self, low: int, high: int) -> Tensor | None:
        """Return the class of a level that each class of a higher level belongs to, or None where they are the same."""
        return self._index(tuple(self._of[low][k] for k in self._first[high]), self.count(low))

    def _index(self, places: tuple[int, ...], count: int) -> Tensor | None:
        return None if places == tuple(range(count)) else torch.tensor(places, device=self.device)


def _pick(x: Tensor, index: Tensor, images: int) -> Tensor:
    """Return the classes `index` of `[U·N, ...]`, in the layout of `x`."""
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    flat = x.permute(0, 2, 3, 1) if last else x
    found = flat.reshape(-1, images, *flat.shape[1:]).index_select(0, index).flatten(0, 1)
    return found.permute(0, 3, 1, 2) if last else found


def _floats(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype == torch.uint8 else x


def _byte_form(module: nn.Module) -> Callable[..., Any]:
    """Return what computes as a module does, on codes that are bytes."""
    if isinstance(module, IntegerLayer):
        return ByteLayer(module)
    if isinstance(module, nn.Flatten | nn.Identity | nn.Dropout):
        return module
    codes = isinstance(module, IntegerInput | IntegerSum | IntegerCat | IntegerMean | nn.MaxPool1d | nn.MaxPool2d)

    def call(*values: Any) -> Any:
        made = module(*(_floats(v) for v in values))
        if not codes:
            return made
        made = made.to(torch.uint8)
        return made.contiguous(memory_format=torch.channels_last) if made.ndim == 4 else made

    return call


def _max_pool(node: fx.Node, modules: Mapping[str, nn.Module]) -> nn.MaxPool2d | None:
    """Return the max-pool that a node is, as a module or a function, if slices can do it."""
    pool = modules.get(str(node.target)) if node.op == "call_module" else None
    if node.target is F.max_pool2d or node.target is torch.max_pool2d:
        pool = nn.MaxPool2d(**{**dict(zip(_POOL_ARGUMENTS[1:], node.args[1:], strict=False)), **node.kwargs})  # type: ignore[arg-type]
    plain = isinstance(pool, nn.MaxPool2d) and not pool.return_indices and not pool.ceil_mode
    return pool if plain else None  # type: ignore[return-value]
