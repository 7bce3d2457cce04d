"""Turn an integer network, with the tables of its points, into a program that needs no Python to run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sparseflow.compress.quantize.integer import IntegerNet
from sparseflow.compress.quantize.integer_ops import (
    IntegerCat,
    IntegerInput,
    IntegerLayer,
    IntegerMean,
    IntegerOutput,
    IntegerSum,
)
from sparseflow.compress.quantize.lowering import edit_at, rows
from sparseflow.compress.quantize.spec import QuantSpec
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ops.int8_net import Program, Step, Value

__all__ = ["to_program"]

_MAX_POOLS = (F.max_pool2d, torch.max_pool2d)
_AVERAGES = (F.avg_pool2d, torch.mean, F.adaptive_avg_pool2d)
_ASIDE = (nn.Dropout, nn.Dropout2d, nn.Identity)


def to_program(
    net: IntegerNet, tables: Mapping[str, Tensor] | None = None, *, metadata: Mapping[str, str] | None = None
) -> Program:
    """Return a network as data that the C++ engine and the exporters read.

    It computes what `net(x, tables=...)` computes with one candidate, to the bit; only a mean of real numbers behind
    the last layer is summed in float64 instead of float32.

    Args:
        net: the integer network; images `[N, C, H, W]` or vectors `[N, F]` in, one tensor out.
        tables: uint8 `[256]` or `[1, 256]` by point.
        metadata: text to keep with the program.

    Raises:
        ConfigError: no such point, or a table of another shape.
        UnsupportedError: the network has an operation that programs do not know; names it.
    """
    chosen = {}
    for name, table in (tables or {}).items():
        net.point(name)
        if table.dtype != torch.uint8 or table.numel() != 256:
            raise ConfigError(f"the table of {name!r} is {table.dtype} {tuple(table.shape)}; expected uint8 [256]")
        chosen[name] = table.reshape(256).cpu()
    return _Writer(net, chosen).run(dict(metadata or {}))


class _Shapes(fx.Interpreter):
    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.found: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.found[n] = tuple(result.shape[1:])
        return result


class _Writer:
    def __init__(self, net: IntegerNet, tables: dict[str, Tensor]) -> None:
        self.net, self.tables, self.graph = net, tables, net.graph
        self.modules = dict(net.graph.named_modules())
        self.values: list[Value] = []
        self.steps: list[Step] = []
        self.made: dict[fx.Node, int] = {}
        # A flattened map keeps its place in memory; only a layer behind it sees the difference.
        self.shapes = self.find_shapes()

    def find_shapes(self) -> dict[fx.Node, tuple[int, ...]]:
        inputs = [n for n in self.graph.graph.nodes if n.op == "placeholder"][:-1]
        readers = [u for n in inputs for u in n.users]
        if len(inputs) != 1 or len(readers) != 1 or not isinstance(self.module(readers[0]), IntegerInput):
            raise UnsupportedError("a program takes one input, which one quantiser reads")
        point = next(iter(self.net.points.values()))
        device = next((b.device for b in self.graph.buffers()), torch.device("cpu"))
        interpreter = _Shapes(self.graph)
        with torch.no_grad():
            interpreter.run(torch.zeros(1, *point.shape[1:], device=device), {})
        return interpreter.found

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def run(self, metadata: dict[str, str]) -> Program:
        output: fx.Node | None = None
        for node in self.graph.graph.nodes:
            if node.op == "output":
                output = node.args[0]
            elif node.op != "placeholder":
                self.emit(node)
        if not isinstance(output, fx.Node) or output not in self.made:
            raise UnsupportedError("a program has one tensor as its output")
        number = self.made[output]
        if not self.values[number].real:
            raise UnsupportedError(f"{output.name}: the output is no real number")
        first = next(n for n in self.graph.graph.nodes if n.op == "placeholder")
        return Program(
            input=_volume(self.shapes[first]), values=tuple(self.values), steps=tuple(self.steps), output=number,
            output_shape=self.shapes[output], metadata=metadata,
        )  # fmt: skip

    def refusal(self, node: fx.Node, why: str = "has no step in a program") -> UnsupportedError:
        module = self.module(node)
        name = type(module).__name__ if module is not None else getattr(node.target, "__name__", str(node.target))
        return UnsupportedError(f"{node.name}: {name} {why}")

    def source(self, node: fx.Node, at: int = 0) -> int:
        given = node.args[at] if len(node.args) > at else None
        if not isinstance(given, fx.Node) or given not in self.made:
            raise self.refusal(node)
        return self.made[given]

    def add(self, node: fx.Node, step: Step, *, zero: int = 0, real: bool = False) -> None:
        value = Value(name=node.name, shape=_volume(self.shapes[node], node), zero=zero, real=real)
        self.values.append(value)
        self.steps.append(replace(step, output=len(self.values) - 1))
        self.made[node] = len(self.values) - 1

    def emit(self, node: fx.Node) -> None:
        module = self.module(node)
        if node.target is edit_at:
            self.emit_point(node)
        elif node.target is rows:
            self.emit_rows(node)
        elif isinstance(module, IntegerInput):
            step = Step(op="quantize", inputs=(), output=0, ratios=(1.0 / module.spec.scale,), **_range(module.spec))
            self.add(node, step, zero=module.spec.zero_point)
        elif isinstance(module, IntegerLayer):
            self.emit_layer(node, module)
        elif isinstance(module, IntegerSum):
            self.emit_sum(node, "sum", module, module.ratios)
        elif isinstance(module, IntegerCat):
            self.emit_cat(node, module)
        elif isinstance(module, IntegerMean):
            self.emit_mean(node, module)
        elif isinstance(module, IntegerOutput):
            step = Step(op="dequantize", inputs=(self.source(node),), output=0, ratios=(module.spec.scale,))
            self.add(node, step, real=True)
        elif isinstance(module, nn.MaxPool2d | nn.AdaptiveMaxPool2d) or node.target in _MAX_POOLS:
            self.emit_max_pool(node, module)
        elif isinstance(module, _ASIDE):
            self.made[node] = self.source(node)
        else:
            self.emit_real(node)

    def emit_point(self, node: fx.Node) -> None:
        number, name = self.source(node), str(node.args[2])
        self.made[node] = number
        self.values[number] = replace(self.values[number], name=name)
        if name in self.tables:
            self.steps[-1] = replace(self.steps[-1], table=self.tables[name])
            assert self.steps[-1].output == number

    def emit_rows(self, node: fx.Node) -> None:
        before, after = self.shapes[node.all_input_nodes[0]], self.shapes[node]
        plain = math.prod(before) == before[0] and math.prod(after) == after[0]
        if len(after) != 1 and before != after and not plain:
            raise self.refusal(node, f"reshapes {before} to {after}; a program only flattens")
        self.made[node] = self.source(node)

    def whole(self, node: fx.Node) -> None:
        """Refuse a flattened map in front of what works on maps."""
        for before in node.all_input_nodes:
            if before in self.made and _volume(self.shapes[before]) != self.values[self.made[before]].shape:
                raise self.refusal(node, "reads a flattened map; in a program only a linear layer does")

    def emit_layer(self, node: fx.Node, layer: IntegerLayer) -> None:
        source, call = self.source(node), layer.call
        before, weight = self.values[source].shape, layer.weight
        if weight.dim() == 2:
            if len(self.shapes[node.all_input_nodes[0]]) != 1:
                raise self.refusal(node, "reads more than one vector an image")
            weight = weight.reshape(len(weight), *before)
        elif weight.dim() != 4:
            raise self.refusal(node, "is one-dimensional")
        else:
            self.whole(node)
        if call.get("pad"):
            raise self.refusal(node, f"pads by {call['pad_mode']!r}; expected zeros")
        real = layer.target is None
        step = Step(
            op="layer", inputs=(source,), output=0, weight=weight.to(torch.int8).cpu().contiguous(),
            bias=layer.bias.float().cpu(), multiplier=layer.multiplier.float().cpu(),
            integer_bias=layer.bias_kind == "int32", groups=call.get("groups", 1),
            stride=_pair(call.get("stride", 1)), dilation=_pair(call.get("dilation", 1)),
            padding=self.padding(node, call, weight), clamp=layer.cap if real else None,
            low=layer.low, high=layer.high,
        )  # fmt: skip
        self.add(node, step, zero=0 if layer.target is None else layer.target.zero_point, real=real)

    def padding(self, node: fx.Node, call: Mapping[str, Any], weight: Tensor) -> tuple[int, int]:
        given = call.get("padding", 0)
        if given == "valid":
            return (0, 0)
        if given != "same":
            return _pair(given)
        reach = [d * (k - 1) for d, k in zip(_pair(call["dilation"]), weight.shape[2:], strict=True)]
        if any(r % 2 for r in reach):
            raise self.refusal(node, "pads more on one side than on the other")
        return (reach[0] // 2, reach[1] // 2)

    def emit_sum(self, node: fx.Node, op: str, module: IntegerSum, ratios: Sequence[float]) -> None:
        inputs = tuple(self.source(node, i) for i in range(len(node.args)))
        if len({self.values[i].shape for i in inputs}) > 1:
            raise self.refusal(node, "adds tensors of different shapes")
        step = Step(
            op=op, inputs=inputs, output=0, ratios=tuple(ratios), low=module.low, high=module.high,
        )  # fmt: skip
        self.add_like(node, step, module.target)

    def add_like(self, node: fx.Node, step: Step, target: QuantSpec) -> None:
        """Add a step whose output may be a flattened map, as its inputs are."""
        self.add(node, step, zero=target.zero_point)
        if step.op == "sum":
            self.values[-1] = replace(self.values[-1], shape=self.values[step.inputs[0]].shape)

    def emit_cat(self, node: fx.Node, module: IntegerCat) -> None:
        self.whole(node)
        if module.dim != 1:
            raise self.refusal(node, "joins another axis than the channels")
        each = [one for one in module.each if isinstance(one, IntegerSum)]
        inputs = tuple(self.source(node, i) for i in range(len(node.args)))
        step = Step(
            op="concat", inputs=inputs, output=0, ratios=tuple(one.ratios[0] for one in each), low=each[0].low,
            high=each[0].high,
        )  # fmt: skip
        self.add(node, step, zero=module.target.zero_point)

    def emit_mean(self, node: fx.Node, module: IntegerMean) -> None:
        self.whole(node)
        source = self.source(node)
        before, ratio = self.values[source].shape, module.source.scale / module.target.scale
        limits: dict[str, Any] = {"low": module.low, "high": module.high}
        if module.pool is None:
            if sorted(module.axes) != [2, 3]:
                raise self.refusal(node, "averages other axes than height and width")
            step = Step(op="mean", inputs=(source,), output=0, ratios=(ratio / (before[1] * before[2]),), **limits)
        else:
            window = self.average(node, module, before)
            step = Step(op="average_pool", inputs=(source,), output=0, ratios=(ratio,), **window, **limits)
        self.add(node, step, zero=module.target.zero_point)

    def average(self, node: fx.Node, module: IntegerMean, before: tuple[int, int, int]) -> dict[str, Any]:
        names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
        pool, after = module.pool, self.shapes[node]
        if isinstance(pool, nn.AvgPool2d):
            given = {name: getattr(pool, name) for name in names}
        elif pool is F.avg_pool2d:
            given = dict(zip(names, module.settings[0], strict=False)) | module.settings[1]
        else:
            # torch divides by height and width in turn, which is one division only for powers of two.
            kernel = (before[1] // after[1], before[2] // after[2])
            even = kernel[0] * after[1] == before[1] and kernel[1] * after[2] == before[2]
            if not even or any(k & (k - 1) for k in kernel):
                raise self.refusal(node, f"averages {before[1:]} to {after[1:]}; expected windows of a power of two")
            return {"kernel": kernel, "stride": kernel}
        kernel = _pair(given["kernel_size"])
        return {
            "kernel": kernel, "stride": _pair(given.get("stride") or kernel), "padding": _pair(given.get("padding", 0)),
            "include_padding": bool(given.get("count_include_pad", True)),
            "divisor": int(given.get("divisor_override") or 0),
        }  # fmt: skip

    def emit_max_pool(self, node: fx.Node, module: nn.Module | None) -> None:
        self.whole(node)
        source = self.source(node)
        value = self.values[source]
        names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
        if value.real:
            raise self.refusal(node, "behind the last layer has no step in a program")
        if isinstance(module, nn.AdaptiveMaxPool2d):
            if self.shapes[node][1:] != (1, 1):
                raise self.refusal(node, "has windows of different sizes")
            given: dict[str, Any] = {"kernel_size": value.shape[1:]}
        elif module is not None:
            given = {name: getattr(module, name) for name in names}
        else:
            given = dict(zip(names, node.args[1:], strict=False)) | dict(node.kwargs)
        if given.get("return_indices"):
            raise self.refusal(node, "returns indices too")
        kernel = _pair(given["kernel_size"])
        step = Step(
            op="max_pool", inputs=(source,), output=0, kernel=kernel, stride=_pair(given.get("stride") or kernel),
            padding=_pair(given.get("padding", 0)), dilation=_pair(given.get("dilation", 1)),
        )  # fmt: skip
        self.add(node, step, zero=value.zero)

    def emit_real(self, node: fx.Node) -> None:
        """Write what follows the last layer: a mean over the whole map, or nothing."""
        module, source = self.module(node), self.source(node)
        value, after = self.values[source], self.shapes[node]
        pools = isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d) or node.target in (*_AVERAGES, "mean")
        one_window = len(after) == 1 or after[1:] == (1, 1)
        plain = not getattr(module, "padding", 0) and len(node.args) < 4
        if not (value.real and pools and one_window and plain and after[0] == value.shape[0]):
            raise self.refusal(node)
        if isinstance(module, nn.AvgPool2d) and _pair(module.kernel_size) != value.shape[1:]:
            raise self.refusal(node)
        if node.target is F.avg_pool2d and _pair(node.args[1] if len(node.args) > 1 else 0) != value.shape[1:]:
            raise self.refusal(node)
        self.add(node, Step(op="real_mean", inputs=(source,), output=0), real=True)


def _range(spec: QuantSpec) -> dict[str, Any]:
    return {"low": spec.qmin, "high": spec.qmax}


def _volume(shape: tuple[int, ...], node: fx.Node | None = None) -> tuple[int, int, int]:
    """Return channels, height and width of an image's shape."""
    if len(shape) == 1:
        return (shape[0], 1, 1)
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    where = f"{node.name}: " if node is not None else ""
    raise UnsupportedError(f"{where}an image has shape {shape}; programs hold vectors and maps [C, H, W]")


def _pair(given: Any) -> tuple[int, int]:
    if isinstance(given, int):
        return (given, given)
    both = tuple(int(x) for x in given)
    return (both[0], both[0]) if len(both) == 1 else (both[0], both[1])
