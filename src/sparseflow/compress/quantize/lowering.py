"""Turn the graph of a quantisation-aware model into one on codes, with a point behind each layer where codes change."""

import copy
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparseflow.compress.quantize.fake_quant import FakeQuantize
from sparseflow.compress.quantize.fuse import relu_cap
from sparseflow.compress.quantize.integer_ops import (
    Bias,
    IntegerCat,
    IntegerInput,
    IntegerLayer,
    IntegerMean,
    IntegerOutput,
    IntegerSum,
)
from sparseflow.compress.quantize.qat import QuantLayer
from sparseflow.compress.quantize.roles import operation, role
from sparseflow.compress.quantize.spec import QuantSpec
from sparseflow.errors import UnsupportedError

__all__ = ["Edit", "Point", "lower"]

Edit = Callable[[Tensor], Tensor]
"""From the codes `[N, ...]` of a point to others, of `[N, ...]` or of K candidates `[K·N, ...]`."""

_ASIDE = frozenset({"dropout", "identity", "contiguous", "detach", "clone", "featuredropout", "alphadropout"})
_RESHAPES = frozenset({"flatten", "unflatten", "reshape", "reshapeas", "view", "viewas", "squeeze", "unsqueeze"})
_EACH_IMAGE = ("maxpool", "adaptivemaxpool", "pixelshuffle", "pixelunshuffle", "channelshuffle", "nativechannelshuffle",
               "upsample", "interpolate", "reflectionpad", "replicationpad")  # fmt: skip
_SPLITS = frozenset({"chunk", "split"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A place where codes can be read or changed.

    Args:
        name: name of the node in the traced graph of the model whose value it is; `Site.node` of a site.
        spec: what the codes stand for.
        shape: shape of the codes on the sample, the batch included.
        layer: dotted path of the layer that makes them, or "".
        rectified: whether a ReLU makes them.
    """

    name: str
    spec: QuantSpec
    shape: tuple[int, ...]
    layer: str = ""
    rectified: bool = False


def edit_at(codes: Tensor, edits: Mapping[str, Edit] | None, name: str) -> Tensor:
    """Return codes as the edit of this point, if there is one, leaves them."""
    edit = edits.get(name) if edits else None
    return codes if edit is None else edit(codes)


def rows(x: Tensor, rest: tuple[int, ...]) -> Tensor:
    """Return each image of a batch in another shape."""
    return x.reshape(len(x), *rest)


class CodesTracer(fx.Tracer):
    """Traces the code of a graph on codes, as loading a pickled one does; its own functions are leaves."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=(edit_at, rows))


def lower(qat: fx.GraphModule, *, bias: Bias, largest_code: int) -> tuple[fx.GraphModule, dict[str, Point]]:
    """Return a graph on codes, whose last argument maps points to edits, and its points in order of execution.

    Args:
        qat: from `prepare_qat`; modules that stay as they are, as pools, are copied.
        bias: as of `IntegerLayer`.
        largest_code: as of `IntegerLayer`.

    Raises:
        UnsupportedError: an operation between layers has no integer form; names it.
    """
    return _Lowering(qat, bias, largest_code).run()


def _plain(name: str) -> str:
    """Return an operation's name in one spelling: `MaxPool2d` and `max_pool2d` as `maxpool`.

    >>> _plain("AdaptiveAvgPool2d"), _plain("max_pool1d"), _plain("view_as")
    ('adaptiveavgpool', 'maxpool', 'viewas')
    """
    flat = name.lower().replace("_", "")
    return flat[:-2] if flat.endswith(("1d", "2d", "3d")) else flat


def _sample_shapes(qat: fx.GraphModule) -> dict[fx.Node, tuple[int, ...] | None]:
    """Return the shape of each node's value on the sample, as the nodes or the module remember it."""
    nodes = list(qat.graph.nodes)
    held: list[tuple[int, ...] | None] = getattr(qat, "sample_shapes", [])
    held = held if len(held) == len(nodes) else [None] * len(nodes)
    return {node: node.meta.get("shape", shape) for node, shape in zip(nodes, held, strict=True)}


class _Lowering:
    def __init__(self, qat: fx.GraphModule, bias: Bias, largest_code: int) -> None:
        self.qat, self.bias, self.largest_code = qat, bias, largest_code
        self.modules: dict[str, nn.Module] = dict(qat.named_modules(remove_duplicate=False))
        self.shapes = _sample_shapes(qat)
        self.graph = fx.Graph(tracer_cls=CodesTracer)
        self.root: dict[str, Any] = {}
        self.made: dict[fx.Node, fx.Node] = {}
        self.specs: dict[fx.Node, QuantSpec] = {}
        self.reals: dict[fx.Node, fx.Node] = {}
        self.points: dict[str, Point] = {}
        self.inner = self.in_front_of_codes()

    def run(self) -> tuple[fx.GraphModule, dict[str, Point]]:
        nodes = list(self.qat.graph.nodes)
        for node in nodes:
            if node.op == "placeholder":
                self.made[node] = self.graph.node_copy(node)
        self.edits = self.graph.placeholder("edits", default_value=None)
        for node in nodes:
            if node.op != "placeholder":
                self.emit(node)
        graph = fx.GraphModule(self.root, self.graph, class_name="IntegerGraph")
        graph.graph.lint()
        return graph, self.points

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def in_front_of_codes(self) -> set[fx.Node]:
        """Return the nodes whose values reach a quantiser or a layer."""
        found: set[fx.Node] = set()
        for node in reversed(self.qat.graph.nodes):
            if any(isinstance(self.module(u), FakeQuantize | QuantLayer) or u in found for u in node.users):
                found.add(node)
        return found

    def emit(self, node: fx.Node) -> None:
        module = self.module(node)
        if isinstance(module, FakeQuantize):
            self.emit_rounding(node, module)
        elif isinstance(module, QuantLayer):
            self.emit_layer(node, module)
        elif node.op == "output":
            self.graph.output(fx.map_arg(node.args[0], self.real))
        elif node.op == "get_attr":
            self.root[str(node.target)] = operator.attrgetter(str(node.target))(self.qat)
            self.made[node] = self.graph.node_copy(node)
        elif role(node, self.modules) == "carry" and self.source(node) in self.specs:
            self.emit_carried(node)
        elif node not in self.inner and role(node, self.modules) != "shape":
            self.emit_real(node)

    def source(self, node: fx.Node) -> fx.Node | None:
        first = node.args[0] if node.args else node.kwargs.get("input")
        return first if isinstance(first, fx.Node) else None

    def call(self, path: str, module: nn.Module, *inputs: fx.Node) -> fx.Node:
        self.root[path] = module
        return self.graph.call_module(path, inputs)

    def value(self, node: fx.Node) -> fx.Node:
        if node not in self.made:
            raise self.refusal(node)
        return self.made[node]

    def real(self, node: fx.Node) -> fx.Node:
        """Return a node of the new graph that holds the real numbers of a value."""
        if node not in self.specs:
            return self.value(node)
        if node not in self.reals:
            path = f"real_{node.name}"
            self.reals[node] = self.call(path, IntegerOutput(self.specs[node]), self.made[node])
        return self.reals[node]

    def refusal(self, node: fx.Node) -> UnsupportedError:
        name = operation(node, self.modules)
        return UnsupportedError(
            f"{node.name}: {name} in front of a layer has no integer form; use convolutions and linear layers with "
            "batch norms right behind them, ReLUs, sums of two, pools, reshapes and concatenations"
        )

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        found = self.shapes.get(node)
        if found is None:
            raise UnsupportedError(
                f"{node.name}: its shape is not known; prepare the model anew with a sample and load its state"
            )
        return tuple(found)

    def finish(self, node: fx.Node, made: fx.Node, point: Point) -> None:
        self.points[point.name] = point
        self.specs[node] = point.spec
        self.made[node] = self.graph.call_function(edit_at, (made, self.edits, point.name))

    def emit_layer(self, node: fx.Node, trained: QuantLayer) -> None:
        source = self.source(node)
        if source is None or source not in self.specs:
            raise self.refusal(source or node)
        layer = IntegerLayer(trained, self.specs[source], bias=self.bias, largest_code=self.largest_code)
        made = self.call(str(node.target), layer, self.made[source])
        if trained.output is None or layer.target is None:
            self.made[node] = made
            return
        self.finish(
            node,
            made,
            Point(
                name=trained.output.point, spec=layer.target, shape=self.shape(node), layer=trained.path,
                rectified=trained.cap is not None,
            ),
        )  # fmt: skip

    def emit_rounding(self, node: fx.Node, quantiser: FakeQuantize) -> None:
        target, source = quantiser.spec(), self.source(node)
        assert source is not None
        cap = None
        if source in self.made and source not in self.specs:
            module: nn.Module = IntegerInput(target)
            values = [self.made[source]]
        else:
            cap = relu_cap(source, self.modules)
            behind = self.source(source) if cap is not None else source
            if behind is None:
                raise self.refusal(source)
            module, inputs = self.arithmetic(behind, target, cap)
            values = [self.made[n] for n in inputs]
        point = Point(name=quantiser.point, spec=target, shape=self.shape(node), rectified=cap is not None)
        self.finish(node, self.call(str(node.target), module, *values), point)

    def arithmetic(self, node: fx.Node, target: QuantSpec, cap: float | None) -> tuple[nn.Module, list[fx.Node]]:
        """Return what makes the codes of a node, and the nodes whose codes it reads."""
        if node in self.specs:
            return IntegerSum([self.specs[node]], target, cap), [node]
        name, found = operation(node, self.modules), role(node, self.modules)
        inputs: list[Any] = []
        if name in ("add", "iadd") and not node.kwargs:
            inputs = list(node.args)
        elif found == "join" and name in ("cat", "concat", "concatenate"):
            inputs = list(node.args[0] if node.args else node.kwargs["tensors"])  # type: ignore[arg-type]
        elif found == "mean":
            inputs = [self.source(node)]
        if not inputs or not all(isinstance(n, fx.Node) and n in self.specs for n in inputs):
            raise self.refusal(node)
        specs = [self.specs[n] for n in inputs]
        if found == "join":
            return IntegerCat(specs, target, cap, dim=self.axis(node)), inputs
        if found == "mean":
            return self.mean(node, specs[0], target, cap), inputs
        return IntegerSum(specs, target, cap), inputs

    def axis(self, node: fx.Node) -> int:
        dim = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", node.kwargs.get("axis", 0))
        assert isinstance(dim, int)
        return dim % len(self.shape(node))

    def mean(self, node: fx.Node, source: QuantSpec, target: QuantSpec, cap: float | None) -> IntegerMean:
        before, name, module = self.source(node), _plain(operation(node, self.modules)), self.module(node)
        assert before is not None
        rank = len(self.shape(before))
        if name == "mean":
            dims = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
            axes = (dims,) if isinstance(dims, int) else dims
            keep = bool(node.args[2] if len(node.args) > 2 else node.kwargs.get("keepdim", False))
            if not isinstance(axes, tuple | list) or any(not isinstance(a, int) or a % rank == 0 for a in axes):
                raise self.refusal(node)
            return IntegerMean(source, target, cap, axes=tuple(a % rank for a in axes), keepdim=keep)
        if name not in ("avgpool", "adaptiveavgpool"):
            raise self.refusal(node)
        spatial = tuple(range(2, rank))
        if name == "adaptiveavgpool" and all(self.shape(node)[a] == 1 for a in spatial):
            return IntegerMean(source, target, cap, axes=spatial, keepdim=True)
        if module is not None:
            return IntegerMean(source, target, cap, pool=copy.deepcopy(module))
        assert callable(node.target)
        return IntegerMean(source, target, cap, pool=node.target, settings=(node.args[1:], dict(node.kwargs)))

    def emit_carried(self, node: fx.Node) -> None:
        source, name = self.source(node), _plain(operation(node, self.modules))
        assert source is not None
        spec = self.specs[source]
        self.specs[node] = spec
        if name in _ASIDE:
            self.made[node] = self.made[source]
        elif name in _RESHAPES:
            before, after = self.shape(source), self.shape(node)
            if before[0] != after[0]:
                raise self.refusal(node)
            self.made[node] = self.graph.call_function(rows, (self.made[source], after[1:]))
        elif name in ("pad", "zeropad", "constantpad"):
            self.made[node] = self.emit_padding(node, source, spec)
        elif name.startswith(_EACH_IMAGE) or self.keeps_images(node, source, name):
            self.made[node] = self.copied(node, self.value)
        else:
            raise self.refusal(node)

    def keeps_images(self, node: fx.Node, source: fx.Node, name: str) -> bool:
        """Tell whether a function that moves values leaves the axis of the images alone."""
        rank = len(self.shapes.get(source) or ())
        given = node.args[1] if len(node.args) > 1 else None
        if name == "getitem":
            whole = isinstance(given, tuple) and len(given) > 0 and given[0] == slice(None)
            return bool(whole) or (rank == 0 and isinstance(given, int))
        if name in _SPLITS:
            dim = node.args[2] if len(node.args) > 2 else node.kwargs.get("dim", 0)
            return isinstance(dim, int) and dim % rank != 0
        if name == "permute":
            order = given if isinstance(given, tuple | list) else node.args[1:]
            return len(order) > 0 and bool(order[0] == 0)
        if name in ("transpose", "swapaxes"):
            axes = node.args[1:3]
            return len(axes) == 2 and all(isinstance(a, int) and a % rank != 0 for a in axes)
        return False

    def emit_padding(self, node: fx.Node, source: fx.Node, spec: QuantSpec) -> fx.Node:
        """Pad with the code of 0, which is not 0 where numbers have signs."""
        module = self.module(node)
        sizes = module.padding if module is not None else node.args[1] if len(node.args) > 1 else node.kwargs.get("pad")
        mode = "constant" if module is not None or len(node.args) < 3 else node.args[2]
        mode = node.kwargs.get("mode", mode)
        if mode != "constant" or not isinstance(sizes, tuple | list):
            raise self.refusal(node)
        return self.graph.call_function(F.pad, (self.made[source], tuple(sizes), "constant", spec.zero_point))

    def emit_real(self, node: fx.Node) -> None:
        """Emit what follows the last layer, on real numbers."""
        name = _plain(operation(node, self.modules))
        if name in _ASIDE:
            source = self.source(node)
            assert source is not None
            self.made[node] = self.real(source)
            return
        before = self.source(node)
        if name in _RESHAPES and before is not None and self.shape(before)[0] == self.shape(node)[0]:
            self.made[node] = self.graph.call_function(rows, (self.real(before), self.shape(node)[1:]))
            return
        self.made[node] = self.copied(node, self.real)

    def copied(self, node: fx.Node, value: Callable[[fx.Node], fx.Node]) -> fx.Node:
        module = self.module(node)
        if module is not None:
            self.root[str(node.target)] = copy.deepcopy(module).eval()
        return self.graph.node_copy(node, value)
