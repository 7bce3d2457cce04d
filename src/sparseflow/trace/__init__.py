"""Torch model and sample to workload: true edges, shapes, costs and measured density.

The room is called like its main function, and can be called like it too:
`sparseflow.trace(model, sample)` stands beside `sparseflow.trace.register(cls)`.
"""

import sys
from types import ModuleType
from typing import Any

from sparseflow.ir import Workload
from sparseflow.trace._capture import capture
from sparseflow.trace._leaf_tracer import leaf_trace, reads_no_values
from sparseflow.trace._state import quiet
from sparseflow.trace.edges import SpikeEdge, spike_edges, structures
from sparseflow.trace.graph import Call, Capture, Node, Weight
from sparseflow.trace.registry import SpikeOpRegistry, is_spike_source, neuron_op, neuron_params, register
from sparseflow.trace.workload import table, to_workload, trace

__all__ = [
    "Call",
    "Capture",
    "Node",
    "SpikeEdge",
    "SpikeOpRegistry",
    "Weight",
    "capture",
    "is_spike_source",
    "leaf_trace",
    "neuron_op",
    "neuron_params",
    "quiet",
    "reads_no_values",
    "register",
    "spike_edges",
    "structures",
    "table",
    "to_workload",
    "trace",
]


class _Room(ModuleType):
    def __call__(self, *args: Any, **kwargs: Any) -> Workload:
        return trace(*args, **kwargs)


sys.modules[__name__].__class__ = _Room
