"""Which layers read spikes, which kernels could run them, and why the others cannot."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from sparseflow import ops
from sparseflow.compress.sparsify.layers import refuse_layer, sparse_layer
from sparseflow.compress.sparsify.replace import get_module
from sparseflow.errors import ConfigError, UnsupportedError
from sparseflow.ir import Layer, Refusal, Target, Workload
from sparseflow.trace import Capture, Node, SpikeEdge

__all__ = ["Site", "find_sites"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One layer that reads spikes and can be replaced.

    Args:
        name: dotted path of the layer.
        sources: the spiking neurons in front of it.
        structure: what it reads: "spikes", "counts" or "sparse".
        kernels: sparse kernels that accept it.
        calls: how often it runs in one forward.
        layer: what the trace knows of it.
    """

    name: str
    sources: tuple[str, ...]
    structure: str
    kernels: tuple[str, ...]
    calls: int
    layer: Layer


def find_sites(
    model: nn.Module, capture: Capture, edges: Iterable[SpikeEdge], workload: Workload, target: Target
) -> tuple[list[Site], list[Refusal]]:
    """Return the layers that a sparse kernel could run, and a refusal for every other one.

    Args:
        model: the model that was captured.
        capture: from `sparseflow.trace.capture`.
        edges: from `sparseflow.trace.spike_edges`.
        workload: of the same capture.
        target: the device that the kernels are for.
    """
    read_by: dict[str, list[SpikeEdge]] = {}
    for edge in edges:
        read_by.setdefault(edge.layer, []).append(edge)
    sites: list[Site] = []
    refusals: list[Refusal] = []
    for node in capture:
        if node.kind not in ("module", "function") or not node.op.startswith(("conv", "linear")):
            continue
        reason = _refusal(model, node, read_by)
        if reason is not None:
            refusals.append(Refusal(layer=node.name, what="sparse kernels", reason=reason))
            continue
        layer = workload.layer(node.name)
        kernels = []
        # Only the first operator's kernels can take the place of one module; others run layer and neuron together.
        first = ops.find(layer)
        for candidate in [] if first is None else first.candidates(layer, target):
            if candidate.refusal is not None:
                refusals.append(Refusal(layer=node.name, what=candidate.kernel, reason=candidate.refusal))
            elif candidate.kernel != "dense":
                kernels.append(candidate.kernel)
        if kernels:
            found = read_by[node.name]
            sites.append(
                Site(
                    name=node.name,
                    sources=tuple(dict.fromkeys(edge.source for edge in found)),
                    structure=found[0].structure,
                    kernels=tuple(kernels),
                    calls=node.calls,
                    layer=layer,
                )
            )
    return sites, refusals


def _refusal(model: nn.Module, node: Node, read_by: dict[str, list[SpikeEdge]]) -> str | None:
    if node.name not in read_by:
        return "its input does not come from spikes, or not through layers that keep zeros"
    if node.kind == "function":
        return "it is a function call inside a forward; only modules can be replaced"
    if node.shared:
        return "it runs at several places of the model with different inputs"
    try:
        sparse_layer(get_module(model, node.target), "dense")
    except (UnsupportedError, ConfigError) as e:
        return str(e)
    return refuse_layer(get_module(model, node.target))
