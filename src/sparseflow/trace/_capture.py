"""Capture a model's graph on a sample, with true producer-to-consumer edges."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map_only

from sparseflow.errors import CaptureError, ConfigError, DataError
from sparseflow.trace._batches import Shape, batch_trace
from sparseflow.trace._leaf_tracer import describe_difference, edges_of_calls, edges_of_graph, leaf_trace
from sparseflow.trace._record import Recorder
from sparseflow.trace._state import one_at_a_time, quiet
from sparseflow.trace._tensors import tensors_in
from sparseflow.trace.graph import Call, Capture, Node

__all__ = ["capture"]

_WEAKEST = ("spikes", "counts", "any")


@one_at_a_time
def capture(model: nn.Module, sample: Any) -> Capture:
    """Run `model` once on `sample` and return its graph.

    The edges are recorded from the tensors that the calls really exchanged. A
    symbolic trace with neurons as leaves is added as `graph_module` when it gives
    bit-equal outputs, at a second call on the state of the first one too, and has
    the same edges; else `how` is "record" and a note says why. Where Python branches
    on shapes, the trace follows the sample: the graph then holds for inputs of
    `graph_shapes` alone. The model runs in eval
    mode without gradient, from fresh neuron state; modes, state, buffers and random
    numbers are put back.

    Args:
        model: any eager module.
        sample: a tensor, a tuple of arguments, or a mapping of keyword arguments.

    Raises:
        CaptureError: the model is scripted or compiled, rejects the sample, or moves
            tensors where no edge can be seen; the message says where.
        DataError: a weight or the sample holds NaN or infinity.
        ConfigError: the model is no module or the sample holds no tensor.

    >>> found = capture(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.ones(2, 4))
    >>> found.how, [node.name for node in found]
    ('fx', ['input', '0', '1', 'output'])
    """
    args, kwargs = _arguments(sample)
    _check(model, args, kwargs)
    with quiet(model):
        given = _fresh(args, kwargs)
        recorder, outputs = _record(model, *given)
        again = _again(model, *_fresh(args, kwargs))
    wrote = not all(map(torch.equal, tensors_in(given), tensors_in((args, kwargs))))
    calls, notes = tuple(recorder.calls), list(recorder.notes)
    notes += _module_notes(model, recorder)
    graph_module: fx.GraphModule | None = None
    shapes: tuple[Shape, ...] | None = None
    try:
        graph_module, shapes = _traced(model, args, kwargs, outputs, again, calls)
    except CaptureError as e:
        notes.append(f"no traced graph: {e}")
    if shapes is not None:
        held = ", ".join(str(tuple("N" if n is None else n for n in shape)).replace("'", "") for shape in shapes)
        notes.append(f"the traced graph holds for inputs of shape {held} only: the model branches on shapes")
    nodes = _fold(calls)
    notes += [f"{n.name} runs at several places of the model" for n in nodes if n.shared and n.kind == "module"]
    return Capture(
        how="record" if graph_module is None else "fx",
        model=type(model).__name__,
        nodes=nodes,
        calls=calls,
        graph_module=graph_module,
        notes=tuple(dict.fromkeys(notes)),
        sample_shapes=tuple(tuple(t.shape) for t in tensors_in((args, kwargs))),
        writes_sample=wrote,
        graph_shapes=shapes,
    )


def _arguments(sample: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(sample, Mapping):
        args: tuple[Any, ...] = ()
        kwargs = dict(sample)
    else:
        args = sample if type(sample) is tuple else (sample,)
        kwargs = {}
    if not any(True for _ in tensors_in((args, kwargs))):
        raise ConfigError(f"the sample holds no tensor but {type(sample).__name__}; give one input batch of the model")
    return args, kwargs


def _fresh(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Copy the sample, since a model may write into it."""
    copied: tuple[tuple[Any, ...], dict[str, Any]] = tree_map_only(torch.Tensor, lambda t: t.clone(), (args, kwargs))
    return copied


def _check(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if not isinstance(model, nn.Module):
        raise ConfigError(f"cannot capture a {type(model).__name__}; give a torch.nn.Module")
    if isinstance(model, torch.jit.ScriptModule):
        raise CaptureError(f"{type(model).__name__} is scripted: its inside cannot be seen; give the eager module")
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise CaptureError(f"{name} is scripted: what it reads and makes cannot be seen; give the eager module")
        if type(module).__name__ == "OptimizedModule":
            raise CaptureError(f"{name or 'the model'} is compiled; give the module before torch.compile")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if isinstance(tensor, nn.UninitializedParameter):
            raise CaptureError(f"{name} has no shape yet; run the model once before")
        if not _finite(tensor):
            raise DataError(f"weight {name!r} holds NaN or infinity; load or train proper weights first")
    for n, tensor in enumerate(tensors_in((args, kwargs))):
        if not _finite(tensor):
            raise DataError(f"tensor {n} of the sample holds NaN or infinity; give a finite batch")


def _finite(tensor: torch.Tensor) -> bool:
    """Tell whether no element is NaN or infinite; a finite sum settles it in one pass."""
    if not tensor.is_floating_point():
        return True
    total = tensor.detach().sum()
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor).all())


def _record(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Recorder, list[torch.Tensor]]:
    recorder = Recorder(model)
    recorder.add_inputs((args, kwargs))
    try:
        with recorder:
            outputs = model(*args, **kwargs)
    except CaptureError:
        raise
    except Exception as e:
        shapes = ", ".join(str(tuple(t.shape)) for t in tensors_in((args, kwargs)))
        raise CaptureError(
            f"{type(model).__name__} does not run on the sample of shape {shapes}: {type(e).__name__}: {e};"
            " give one batch as the model takes it"
        ) from e
    recorder.add_outputs(outputs)
    return recorder, [t.detach().clone() for t in tensors_in(outputs)]


def _again(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor] | None:
    """Return the outputs of one more call, or None if the model takes none before it is reset."""
    try:
        return [t.detach().clone() for t in tensors_in(model(*args, **kwargs))]
    except Exception:
        return None


def _same(one: list[torch.Tensor] | None, other: list[torch.Tensor]) -> bool:
    return one is not None and len(one) == len(other) and all(map(torch.equal, one, other))


def _traced(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    expected: list[torch.Tensor],
    again: list[torch.Tensor] | None,
    calls: tuple[Call, ...],
) -> tuple[fx.GraphModule, tuple[Shape, ...] | None]:
    """Return the symbolic trace of the model, checked against what was recorded, and the shapes that it holds for."""
    shapes: tuple[Shape, ...] | None = None
    try:
        with quiet(model):
            traced = leaf_trace(model)
    except CaptureError as generic:
        try:
            traced, shapes = batch_trace(model, args, kwargs)
        except CaptureError as e:
            raise CaptureError(f"{generic}; {e}") from e
    with quiet(model):
        try:
            fresh_args, fresh_kwargs = _fresh(args, kwargs)
            outputs = list(tensors_in(traced(*fresh_args, **fresh_kwargs)))
        except Exception as e:
            raise CaptureError(f"the traced graph does not run: {type(e).__name__}: {e}") from e
        if not _same(outputs, expected):
            raise CaptureError("the traced graph gives other outputs than the model")
        if again is not None and not _same(_again(traced, *_fresh(args, kwargs)), again):
            raise CaptureError(
                "at a second call the traced graph gives other outputs, as where a forward resets neurons"
            )
    of_graph, of_calls = edges_of_graph(traced.graph), edges_of_calls(calls)
    if of_graph != of_calls:
        raise CaptureError(describe_difference(of_graph, of_calls))
    return traced, shapes


def _module_notes(model: nn.Module, recorder: Recorder) -> list[str]:
    notes = []
    first: dict[int, str] = {}
    ran = {id(module) for module in recorder.ran.values()}
    for name, module in model.named_modules(remove_duplicate=False):
        if id(module) in first and id(module) in ran:
            notes.append(f"{first[id(module)]} and {name} are one module")
        first.setdefault(id(module), name)
    return notes


def _fold(calls: tuple[Call, ...]) -> tuple[Node, ...]:
    """Merge the calls of each node."""
    groups: dict[str, list[Call]] = {}
    for call in calls:
        groups.setdefault(call.node, []).append(call)
    return tuple(_merge(name, group, calls) for name, group in groups.items())


def _merge(name: str, group: list[Call], calls: tuple[Call, ...]) -> Node:
    first = group[0]
    inputs = dict.fromkeys(calls[i].node for call in group for i, _ in call.inputs)
    inputs.pop(name, None)
    primary = {calls[call.inputs[0][0]].site for call in group if call.inputs} - {name}
    shapes = {(call.input_shapes[:1], call.output_shapes[:1]) for call in group}
    nonzero = sum(call.nonzero[0] for call in group if call.nonzero)
    numel = sum(int(torch.Size(call.output_shapes[0]).numel()) for call in group if call.output_shapes)
    node = Node(
        name=name, target=first.target, kind=first.kind, op=first.op, inputs=tuple(inputs),
        input_shapes=first.input_shapes, output_shapes=first.output_shapes, attrs=first.attrs, params=first.params,
        calls=len(group), shared=len(primary) > 1 or len(shapes) > 1, source=first.source,
        density=nonzero / numel if numel else None,
    )  # fmt: skip
    held = [call.values[0] for call in group if call.values]
    return replace(node, values=max(held, key=_WEAKEST.index) if held else "any")
