"""Sparsify: the transform that turns decisions about kernels and fusion into a new model."""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from sparseflow.compress.sparsify.fuse import Fused, fuse
from sparseflow.compress.sparsify.layers import sparse_layer
from sparseflow.compress.sparsify.regions import find_regions, observe
from sparseflow.compress.sparsify.replace import get_module, replace_modules
from sparseflow.errors import PlanError, UnsupportedError
from sparseflow.ir import Decision, LayerReport, Plan, Report
from sparseflow.nn.fused_net import FusedNet
from sparseflow.trace import Capture, capture, neuron_params
from sparseflow.trace._state import quiet
from sparseflow.trace.workload import to_workload

__all__ = ["FUSED", "Sparsify", "arguments", "swap_layers"]

FUSED = "network"
"""Name of the one fused region that a plan can put a layer in."""


class Sparsify:
    """Replaces layers by their sparse twins, or the whole forward by fused blocks.

    A decision with a kernel alone swaps that layer for `SparseConv2d` or
    `SparseLinear`. Once any decision has `fuse` set, the network runs as fused
    blocks on packed spikes, and kernels are those of the blocks. The schedule may
    hold "block", which is kept as a note on a swapped layer.

    Args:
        sample: one input batch of the model, as for `sparseflow.trace`; the plan
            must have been made on it.
        target: name of the target, for the report.
    """

    reads = frozenset({"kernel", "schedule", "fuse"})

    def __init__(self, sample: Any, *, target: str = "cpu") -> None:
        self.sample = sample
        self.target = target

    def apply(self, model: nn.Module, plan: Plan) -> tuple[nn.Module, Report]:
        """Return a changed copy of `model` in eval mode, and what was done.

        Raises:
            PlanError: the plan is for another workload, names a layer or a kernel
                that is not there, or sets a field that this does not read.
            CaptureError: the model does not run on the sample.
        """
        made = copy.deepcopy(model).eval()
        found = capture(made, self.sample)
        plan.check(to_workload(found), self.reads)
        try:
            if any(d.fuse for d in plan.decisions.values()):
                made = self._fused(made, found, plan)
            else:
                made = swap_layers(made, plan.decisions)
        except UnsupportedError as e:
            raise PlanError(f"the plan cannot be applied: {e}") from e
        rows = tuple(LayerReport(name=k, op="", kernel=d.kernel or "dense") for k, d in plan.decisions.items())
        return made, Report(
            model=type(model).__name__, target=self.target, captured_by=found.how, layers=rows, plan=plan
        )

    def _fused(self, model: nn.Module, found: Capture, plan: Plan) -> nn.Module:
        fused = fused_graph(model, found, self.sample, {k: d.kernel for k, d in plan.decisions.items() if d.kernel})
        return FusedNet(model, fused.graph_module, shapes=found.graph_shapes)


def fused_graph(model: nn.Module, found: Capture, sample: Any, kernels: Mapping[str, str]) -> Fused:
    """Return the fused graph of a captured model.

    Raises:
        UnsupportedError: the capture has no traced graph, or nothing in it fuses.
    """
    traced = found.graph_module
    if traced is None:
        raise UnsupportedError(next(iter(found.notes), "the model has no traced graph"))
    with quiet(model):
        facts = observe(traced, tree_map_only(torch.Tensor, torch.clone, arguments(sample, traced)))
    regions = find_regions(traced, facts)
    if not any(region.neuron is not None for region in regions.values()):
        called = Counter(str(n.target) for n in traced.graph.nodes if n.op == "call_module")
        if any(count > 1 and neuron_params(get_module(traced, name)) for name, count in called.items()):
            raise UnsupportedError(
                "the neurons are called several times a forward, as in a loop over time steps; write the network in "
                'multi-step mode (step_mode="m") to have its layers fused'
            )
        raise UnsupportedError(
            "no IF, LIF or parametric LIF neuron of a known library runs in the traced graph; one of your own needs "
            "`params` where it is registered, its potential in `v`, and a `step_mode`"
        )
    return fuse(traced, facts, kernels, regions)


def arguments(sample: Any, traced: nn.Module | None = None) -> tuple[Any, ...]:
    """Return the positional arguments of a forward that a sample stands for.

    Args:
        sample: a tensor, a tuple of arguments, or a mapping of keyword arguments.
        traced: the graph whose placeholders order the keyword arguments.

    >>> arguments(torch.ones(1))
    (tensor([1.]),)
    """
    if isinstance(sample, Mapping):
        if not isinstance(traced, torch.fx.GraphModule):
            raise UnsupportedError("keyword arguments need a traced graph; give the sample as a tuple")
        names = [n for n in traced.graph.nodes if n.op == "placeholder"]
        return tuple(sample[n.target] if n.target in sample else n.args[0] for n in names)
    return sample if type(sample) is tuple else (sample,)


def swap_layers(model: nn.Module, decisions: Mapping[str, Decision]) -> nn.Module:
    """Swap layers for their sparse twins in place, all or none.

    Raises:
        UnsupportedError: a layer has no sparse twin; the model is then untouched.
    """
    twins = {
        name: sparse_layer(get_module(model, name), d.kernel, dict(d.schedule).get("block"))
        for name, d in decisions.items()
        if d.kernel is not None and d.kernel != "dense"
    }
    return replace_modules(model, twins) if twins else model
