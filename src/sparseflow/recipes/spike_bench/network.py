"""Whole networks: the shipped trained network, dense at its best against optimised."""

from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparseflow.compress import optimize_spiking
from sparseflow.compress.sparsify.regions import find_regions, observe
from sparseflow.cost.dense import dense_variants
from sparseflow.cost.measure import measure, ratio
from sparseflow.errors import CaptureError
from sparseflow.hardware import load_target
from sparseflow.nn.functional import reset_net
from sparseflow.recipes._layers import record_inputs
from sparseflow.trace import capture, spike_edges

__all__ = ["NetworkRow", "SpikingLayer", "spiking_layers", "time_network"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    """One measured network.

    Args:
        model: name of the network.
        threads: threads of both sides.
        batch: images a forward.
        dense: fastest dense variant.
        dense_s: its median time.
        optimized_s: median time of the optimised network.
        ratio: median of the per-round ratios.
        candidates_s: medians of the choosing measurement.
        kernels: kernel by layer name in the optimised network.
        top1_equal: fraction of the batch with the same top-1 class.
        failures: dense variants that did not run, with reasons.
    """

    model: str
    threads: int
    batch: int
    dense: str
    dense_s: float
    optimized_s: float
    ratio: float
    candidates_s: dict[str, float]
    kernels: dict[str, str]
    top1_equal: float
    failures: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def time_network(model: nn.Module, x: Tensor, *, name: str, repeats: int, compile: bool) -> NetworkRow:
    """Time `sparseflow.optimize(model, x)` against the best dense way to run `model`.

    State is reset inside the timer on both sides.

    Args:
        model: network in eval mode; not changed.
        x: images `[N, C, H, W]`.
        name: label.
        repeats: rounds of the quoted measurement.
        compile: let the dense side use torch.compile.
    """
    torch._dynamo.reset()
    # Inductor moves convolutions to channels_last by itself, and starting there has always been faster.
    dense = dense_variants(model, x, reset=reset_net, compile=compile, compile_layouts=("channels_last",))
    optimized, report = optimize_spiking(model, x, target=load_target("cpu"))

    def run() -> Any:
        reset_net(optimized)
        with torch.no_grad():
            return optimized(x)

    first = measure({**dense.fns, "optimized": run}, repeats=max(5, repeats // 3), budget_s=60.0)
    best = min(dense.fns, key=lambda k: first[k].median_s)
    timings = measure({best: dense.fns[best], "optimized": run}, repeats=repeats, budget_s=60.0)
    same = (run().argmax(-1) == dense.fns["eager nchw"]().argmax(-1)).float().mean()
    return NetworkRow(
        model=name,
        threads=torch.get_num_threads(),
        batch=len(x),
        dense=best,
        dense_s=timings[best].median_s,
        optimized_s=timings["optimized"].median_s,
        ratio=ratio(timings, best, "optimized"),
        candidates_s={k: t.median_s for k, t in first.items()},
        kernels={row.name: row.kernel for row in report.layers},
        top1_equal=float(same),
        failures=dense.failures,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikingLayer:
    """A layer that reads spikes, what fuses with it, and its real input.

    Args:
        layer: convolution or linear layer.
        bn: the normalisation that fuses with it, or None.
        neuron: the neuron that fuses with it, or None.
        x: the input of one forward, as the layer got it.
    """

    layer: nn.Conv2d | nn.Linear
    bn: nn.BatchNorm2d | None
    neuron: nn.Module | None
    x: Tensor

    @property
    def folded(self) -> Tensor:
        """The input with time folded into the batch, `[T·N, C, H, W]` or `[T·N, K]`."""
        keep = 3 if isinstance(self.layer, nn.Conv2d) else 1
        return self.x.reshape(-1, *self.x.shape[self.x.dim() - keep :])


def spiking_layers(model: nn.Module, x: Tensor) -> dict[str, SpikingLayer]:
    """Return every convolution and linear layer of a network that reads spikes, by dotted name.

    The edges come from the capture; the inputs from one forward of `x`.

    Args:
        model: a network that a symbolic trace captures, in eval mode; it is left reset.
        x: images `[N, C, H, W]`.

    Raises:
        CaptureError: the network is not captured as a graph.
    """
    reset_net(model)
    found = capture(model, x)
    if found.graph_module is None:
        raise CaptureError("the network is not captured as a graph, so its blocks are not known")
    graph = found.graph_module
    regions = {r.layer.target: r for r in find_regions(graph, observe(graph, (x,))).values() if r.layer is not None}
    inputs = record_inputs(model, x, {edge.layer for edge in spike_edges(found)})
    layers = {}
    for name, spikes in inputs.items():
        region = regions.get(name)
        bn, neuron = (None, None) if region is None else (region.bn, region.neuron)
        layers[name] = SpikingLayer(
            layer=cast(Any, model.get_submodule(name)),
            bn=None if bn is None else cast(nn.BatchNorm2d, model.get_submodule(str(bn.target))),
            neuron=None if neuron is None else model.get_submodule(str(neuron.target)),
            x=spikes,
        )
    return layers
