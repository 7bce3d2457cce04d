"""Torch model and sample to workload: true edges, shapes, costs and measured density."""

from sparseflow.trace._capture import capture
from sparseflow.trace.edges import SpikeEdge, spike_edges, structures
from sparseflow.trace.graph import Call, Capture, Node
from sparseflow.trace.registry import SpikeOpRegistry, is_spike_source, neuron_op, neuron_params, register
from sparseflow.trace.workload import table, trace

__all__ = [
    "Call",
    "Capture",
    "Node",
    "SpikeEdge",
    "SpikeOpRegistry",
    "capture",
    "is_spike_source",
    "neuron_op",
    "neuron_params",
    "register",
    "spike_edges",
    "structures",
    "table",
    "trace",
]
