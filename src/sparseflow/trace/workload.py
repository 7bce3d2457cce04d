"""Torch model and sample to `Workload`: shapes, costs and measured density of every operator."""

from dataclasses import replace
from typing import Any

from rich.table import Table
from torch import nn

from sparseflow import ops
from sparseflow.ir import FLOAT32, Layer, Operand, Precision, Workload
from sparseflow.trace._capture import capture
from sparseflow.trace.edges import structures
from sparseflow.trace.graph import Call, Capture, Node, Ref, Weight

__all__ = ["table", "to_workload", "trace"]

_SECOND = {
    "matmul": ("input", "other"), "einsum": ("input", "other"), "attention": ("input", "key", "value", "mask"),
    "linear": ("input", "weight", "bias"), "multihead_attention": ("input", "key", "value", "mask"),
}  # fmt: skip
_LIKE = {
    **dict.fromkeys(("rsub", "maximum", "minimum", "logical_and", "logical_or", "logical_not", "where"), "add"),
    **dict.fromkeys(("masked_fill", "leaky_relu", "leakyrelu", "prelu", "threshold", "sign", "round"), "relu"),
    **dict.fromkeys(("hardsigmoid", "elu", "selu", "celu", "softplus", "mish", "pow", "sin", "cos"), "sigmoid"),
    **dict.fromkeys(("rsqrt", "square", "reciprocal"), "sqrt"),
    **dict.fromkeys(("log_softmax", "logsoftmax", "softmin"), "softmax"),
    **dict.fromkeys(("std", "norm", "prod", "cumsum", "argmax", "argmin", "topk"), "sum"),
    "neuron": "lif",
}
_FREE = frozenset(
    {
        "cast", "write", "alias", "state", "upsample", "flip", "roll", "zeros", "ones", "full", "empty", "arange",
        "linspace", "eye", "zeros_like", "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full",
        "new_empty", "unfold", "fold", "pixelshuffle", "pixel_shuffle", "channelshuffle", "masked_select", "tril",
        "triu", "zeropad2d", "index", "meshgrid", "take_along_dim", "scatter", "index_copy", "zero", "fill", "real",
        "imag", "random_dropout", "permute_copy", "bernoulli", "rand_like", "randn_like", "rand", "randn",
    }
)  # fmt: skip
_STATEFUL = frozenset({"if", "lif", "plif", "neuron"})
_PRECISIONS = {
    "float16": Precision(kind="float", bits=16), "bfloat16": Precision(kind="bfloat", bits=16),
    "float64": Precision(kind="float", bits=64), "bool": Precision(kind="uint", bits=8),
    "uint8": Precision(kind="uint", bits=8), "int8": Precision(kind="int", bits=8),
    "int16": Precision(kind="int", bits=16), "int32": Precision(kind="int", bits=32),
    "int64": Precision(kind="int", bits=64),
}  # fmt: skip


def trace(model: nn.Module, sample: Any, *, name: str = "") -> Workload:
    """Run `model` once on `sample` and return what it computes, layer by layer.

    Operators are not decomposed, and layers that only move data are kept (a
    layer that does not even do that has the attribute `view`). A layer that a
    loop over time steps runs T times is one layer with `repeat` T; where time is
    a tensor dimension it stays in the shapes.

    Args:
        model: any eager module.
        sample: a tensor, a tuple of arguments, or a mapping of keyword arguments.
        name: name of the workload; the model's class if left out.

    Raises:
        CaptureError: no graph with true edges can be had; says why.
        DataError: a weight or the sample holds NaN or infinity.

    >>> import torch
    >>> found = trace(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.ones(2, 4))
    >>> [(layer.op, layer.flops, layer.uses) for layer in found]
    [('linear', 54.0, ()), ('relu', 6.0, ('0',))]
    """
    return to_workload(capture(model, sample), name=name)


def to_workload(found: Capture, *, name: str = "") -> Workload:
    """Return the workload of a capture.

    >>> import torch
    >>> to_workload(capture(nn.ReLU(), torch.tensor([[-1.0, 1.0]]))).layer("model").operand("output").density
    0.5
    """
    held = structures(found)
    calls: dict[str, list[Call]] = {}
    for call in found.calls:
        calls.setdefault(call.node, []).append(call)
    kept = {node.name for node in found if node.kind in ("module", "function")}
    notes = list(found.notes)
    layers: list[Layer] = []
    for node in found.nodes:
        if node.name not in kept:
            continue
        before = {layer.name for layer in layers}
        later = [user for user in node.inputs if user in kept and user not in before]
        when = "when it runs again" if node.shared else "of the step before"
        notes += [f"{node.name} reads {user} {when}" for user in later]
        shapes: dict[Any, list[Call]] = {}
        for call in calls[node.name]:
            shapes.setdefault((call.input_shapes[:1], call.output_shapes), []).append(call)
        for n, group in enumerate(shapes.values()):
            part = _part(node, group, f"{node.name}#{n + 1}" if n else node.name)
            layers.append(_layer(part, group, found, held, before, notes))
    return Workload(
        name=name or found.model, layers=tuple(layers), captured_by=found.how, notes=tuple(dict.fromkeys(notes))
    )


def _part(node: Node, group: list[Call], name: str) -> Node:
    """Return the node as if it had only these calls: one module may run on several shapes."""
    first = group[0]
    return replace(
        node, name=name, calls=len(group), input_shapes=first.input_shapes, output_shapes=first.output_shapes
    )


def _layer(
    node: Node, group: list[Call], found: Capture, held: dict[Ref, str], before: set[str], notes: list[str]
) -> Layer:
    operands = [
        *_inputs(node, group, found, held),
        *(_weight(name, weight) for name, weight in node.params.items()),
        *_outputs(node, group, held),
    ]
    attrs = {k: v for k, v in node.attrs.items() if v is not None}
    return Layer(
        name=node.name, op=node.op, operands=tuple(operands), attrs=tuple(sorted(attrs.items())),
        uses=tuple(name for name in node.inputs if name in before), repeat=node.calls,
        flops=_flops(node, operands, notes),
    )  # fmt: skip


def _input_role(node: Node, position: int) -> str:
    roles = ("input", "weight", "bias") if node.op.startswith("conv") else _SECOND.get(node.op, ("input", "residual"))
    if node.op in _STATEFUL:
        roles = ("input", "state")
    return roles[min(position, len(roles) - 1)]


def _inputs(node: Node, group: list[Call], found: Capture, held: dict[Ref, str]) -> list[Operand]:
    operands = []
    for position in range(len(group[0].inputs)):
        refs = [call.inputs[position] for call in group if len(call.inputs) > position]
        operands.append(_operand(_input_role(node, position), refs, found.calls, held))
    return operands


def _outputs(node: Node, group: list[Call], held: dict[Ref, str]) -> list[Operand]:
    calls = {call.index: call for call in group}
    operands = []
    for slot, shape in enumerate(node.output_shapes):
        refs = [(call.index, slot) for call in group if len(call.output_shapes) > slot]
        role = "state" if slot and node.op in _STATEFUL else "output"
        operands.append(_operand(role, refs, calls, held))
        if slot == 0 and node.op in _STATEFUL and len(node.output_shapes) == 1:
            state = shape[1:] if node.attrs.get("step_mode") == "m" else shape
            operands.append(Operand(role="state", shape=state, precision=operands[0].precision))
    return operands


def _operand(role: str, refs: list[Ref], calls: Any, held: dict[Ref, str]) -> Operand:
    index, slot = refs[0]
    shape = calls[index].output_shapes[slot]
    one = Operand(role=role, shape=shape).numel
    nonzero = sum(calls[i].nonzero[s] for i, s in refs)
    forms = [held.get(ref, "dense") for ref in refs]
    order = ("spikes", "counts", "sparse", "dense")
    return Operand(
        role=role,
        shape=shape,
        precision=_PRECISIONS.get(calls[index].dtypes[slot], FLOAT32),
        density=min(1.0, nonzero / (one * len(refs))) if one else None,
        structure=max(forms, key=order.index),
    )


def _weight(name: str, weight: Weight) -> Operand:
    precision = _PRECISIONS.get(weight.dtype, FLOAT32)
    if name.startswith(("running", "num_batches")):
        return Operand(role="state", shape=weight.shape, precision=precision)
    role = "bias" if name.endswith("bias") else "weight"
    return Operand(role=role, shape=weight.shape, precision=precision, density=weight.density)


def _flops(node: Node, operands: list[Operand], notes: list[str]) -> float:
    shapes: dict[str, tuple[int, ...]] = {}
    for operand in operands:
        shapes.setdefault(operand.role, operand.shape)
    if node.op == "multihead_attention":
        return _attention_module(shapes, node.attrs)
    if node.op in _STATEFUL and any(len(weight.shape) > 1 for weight in node.params.values()):
        notes.append(f"{node.name} holds weights of its own, whose products count 0")
    op = _LIKE.get(node.op, node.op)
    if not ops.has_flops(op):
        if op not in _FREE:
            notes.append(f"operator {op!r} has no flop formula; its layers count 0")
        return 0.0
    return float(ops.flops(op, shapes, node.attrs))


def _attention_module(shapes: dict[str, tuple[int, ...]], attrs: dict[str, Any]) -> float:
    """Four projections and the attention of every head."""
    query = shapes["input"]
    key, width, heads = shapes.get("key", query), query[-1], int(attrs.get("num_heads", 1))
    square = (width, width)
    projections = 2 * ops.flops("linear", {"weight": square, "output": query, "bias": (width,)})
    projections += 2 * ops.flops("linear", {"weight": square, "output": key, "bias": (width,)})
    split = {"input": (heads, *query[:-1], width // heads), "key": (heads, *key[:-1], width // heads)}
    return projections + ops.flops("attention", split)


def _shape(operand: Operand | None) -> str:
    return "" if operand is None else "×".join(map(str, operand.shape))


def _amount(value: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f}"


def table(workload: Workload, *, views: bool = False) -> Table:
    """Return a workload as a table for the terminal.

    Args:
        workload: from `trace`.
        views: also list layers that move nothing.
    """
    layers = [layer for layer in workload if views or not layer.attr("view")]
    title = f"{workload.name}: {len(layers)} layers, {_amount(workload.flops)}FLOP a forward, by {workload.captured_by}"
    out = Table(title=title, caption="\n".join(workload.notes) or None, caption_justify="left")
    for head in ("layer", "operator", "input", "output"):
        out.add_column(head, overflow="fold")
    for head in ("×", "FLOP", "bytes", "density"):
        out.add_column(head, justify="right")
    out.add_column("input holds")
    for layer in layers:
        first = layer.operand("input")
        density = "" if layer.density is None else f"{100 * layer.density:.1f} %"
        out.add_row(
            layer.name, layer.op, _shape(first), _shape(layer.operand("output")), str(layer.repeat),
            _amount(layer.flops * layer.repeat), _amount(layer.bytes * layer.repeat), density,
            "" if first is None else first.structure,
        )  # fmt: skip
    return out
