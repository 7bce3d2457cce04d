"""Find layers that read spikes without running the model: by symbolic trace alone."""

import operator
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from sparseflow.compress.sparsify.layers import refuse_layer
from sparseflow.ir import Refusal
from sparseflow.nn.layers import Repeat
from sparseflow.trace import is_spike_source

__all__ = ["spiking_layers"]

# All keep zeros at zero, which is all that a drop-in layer asks of its input.
_MODULES = (
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Dropout, nn.Dropout2d, nn.Dropout3d,
    nn.Identity, nn.Flatten, nn.Unflatten, Repeat,
)  # fmt: skip
_FUNCTIONS = (
    operator.add, operator.iadd, operator.mul, operator.getitem, torch.add, torch.mul, torch.cat, torch.stack,
    torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze, F.max_pool2d, F.avg_pool2d, F.dropout,
    F.adaptive_avg_pool2d,
)  # fmt: skip
_METHODS = (
    "add", "add_", "mul", "flatten", "reshape", "view", "contiguous", "squeeze", "unsqueeze", "unflatten", "permute",
    "transpose", "mean", "expand", "repeat",
)  # fmt: skip


def spiking_layers(traced: fx.GraphModule) -> tuple[dict[str, tuple[str, ...]], list[Refusal]]:
    """Return the replaceable layers whose whole input comes from spikes, with the neurons in front.

    Args:
        traced: a leaf trace; shapes and values are not known.

    Returns:
        Neurons by dotted path of the layer, and a refusal for every other layer.
    """
    modules = dict(traced.named_modules())
    sources: dict[fx.Node, tuple[str, ...]] = {}
    found: dict[str, list[tuple[str, ...]]] = {}
    for node in traced.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        given = [sources.get(n, ()) for n in node.all_input_nodes]
        if module is not None and is_spike_source(module):
            sources[node] = (str(node.target),)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            found.setdefault(str(node.target), []).append(given[0] if given else ())
        elif all(given) and given and _keeps_zeros(node, module):
            sources[node] = tuple(dict.fromkeys(name for names in given for name in names))
    layers: dict[str, tuple[str, ...]] = {}
    refusals: list[Refusal] = []
    for name, runs in found.items():
        reason = refuse_layer(modules[name])
        if not all(runs):
            reason = "its input does not come from spikes, or not through layers that keep zeros"
        elif len(set(runs)) > 1:
            reason = "it runs at several places of the model with different inputs"
        if reason is None:
            layers[name] = runs[0]
        else:
            refusals.append(Refusal(layer=name, what="sparse kernels", reason=reason))
    return layers, refusals


def _keeps_zeros(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_module":
        return isinstance(module, _MODULES)
    target: Any = node.target
    adds = target in (operator.add, operator.iadd, torch.add, "add", "add_")
    if adds and any(isinstance(a, int | float) for a in node.args):
        return False
    return target in (_FUNCTIONS if node.op == "call_function" else _METHODS)
