"""Whole networks: the shipped trained network, dense at its best against optimised."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress import optimize_spiking
from sparseflow.cost.dense import dense_variants
from sparseflow.cost.measure import measure, ratio
from sparseflow.hardware import load_target
from sparseflow.nn.functional import reset_net

__all__ = ["NetworkRow", "spiking_inputs", "time_network"]


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
    dense = dense_variants(model, x, reset=reset_net, compile=compile)
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


def spiking_inputs(model: nn.Module, x: Tensor) -> dict[str, tuple[nn.Conv2d | nn.Linear, Tensor]]:
    """Return every convolution and linear layer that reads spikes, with its real input.

    The edges come from the capture; the inputs from one forward of `x`, with
    time folded into the batch, `[T·N, ...]`.
    """
    from sparseflow.trace import capture, spike_edges

    reset_net(model)
    wanted = {edge.layer for edge in spike_edges(capture(model, x))}
    found: dict[str, tuple[nn.Conv2d | nn.Linear, Tensor]] = {}
    handles = []
    for name, module in model.named_modules():
        if name in wanted and isinstance(module, nn.Conv2d | nn.Linear):

            def keep(layer: Any, args: tuple[Tensor, ...], name: str = name) -> None:
                y = args[0].detach()
                keep_dims = 3 if isinstance(layer, nn.Conv2d) else 1
                found[name] = (layer, y.reshape(-1, *y.shape[y.dim() - keep_dims :]).clone())

            handles.append(module.register_forward_pre_hook(keep))
    try:
        reset_net(model)
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
        reset_net(model)
    return found
