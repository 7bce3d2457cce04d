"""The block rule on a GPU: which layers it takes, and what both stages do to each of them."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sparseflow.compress.sparsify.analyze import find_sites
from sparseflow.compress.sparsify.parity import rel_error
from sparseflow.compress.sparsify.parity_gpu import plain_convolutions
from sparseflow.compress.sparsify.policy import select_block_size
from sparseflow.compress.sparsify.replace import get_module
from sparseflow.compress.sparsify.rivals import block_twin
from sparseflow.compress.sparsify.tune import Effort, Timed
from sparseflow.compress.sparsify.tune_gpu import call_seconds
from sparseflow.ir import Refusal, Target, Workload
from sparseflow.ops.conv2d_block.space import refuses_triton
from sparseflow.trace import Capture, spike_edges

__all__ = ["block_layers", "time_block_layers"]


def block_layers(
    base: nn.Module, found: Capture, workload: Workload, target: Target
) -> tuple[dict[str, int], list[Refusal]]:
    """Return the block size of every layer that the rule takes, and why it leaves the others.

    Args:
        base: the model that was captured.
        found: from `sparseflow.trace.capture`.
        workload: of the same capture.
        target: the GPU.
    """
    edges = spike_edges(found)
    _, refused = find_sites(base, found, edges, workload, target)
    reasons = {r.layer: r.reason for r in refused if r.what == "sparse kernels"}
    sizes: dict[str, int] = {}
    for name in dict.fromkeys(edge.layer for edge in edges):
        if name in reasons:
            continue
        layer = workload.layer(name)
        x = layer.operand("input")
        height, width = x.shape[-2:] if x is not None and layer.op == "conv2d" else (0, 0)
        block, refusal = select_block_size(height, width), refuses_triton(layer, target)
        if layer.op != "conv2d":
            reasons[name] = "the block rule takes convolutions only"
        elif block is None:
            reasons[name] = f"the block rule leaves a {height}x{width} map dense; it takes maps of at least 8x8"
        elif refusal is not None:
            reasons[name] = refusal
        else:
            sizes[name] = block
    return sizes, [Refusal(layer=name, what="block", reason=reason) for name, reason in reasons.items()]


@torch.no_grad()
def time_block_layers(
    base: nn.Module,
    args: tuple[Any, ...],
    sizes: Mapping[str, int],
    workload: Workload,
    dtype: torch.dtype,
    effort: Effort,
) -> dict[str, Timed]:
    """Run every layer of the rule on the input that it really gets, with both stages and densely.

    A layer that runs several times, as in a loop over time steps, is timed on the
    input of its middle run.

    Args:
        base: the model; it may run, its state is up to the caller.
        args: arguments of its forward.
        sizes: from `block_layers`.
        workload: what was traced.
        dtype: type that both run in.
        effort: how long to measure.

    Returns:
        By layer name the times "library" and "block", and as `rel_err` the largest difference of the two
        stages from the float32 convolution, over its largest output.
    """
    timed: dict[str, Timed] = {}

    def listen(name: str, block: int) -> Callable[..., None]:
        last = workload.layer(name).repeat // 2
        seen = [0]

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if seen[0] == last:
                timed[name] = _timed(base, name, block, inputs[0], dtype, effort)
            seen[0] += 1

        return hook

    handles = [get_module(base, name).register_forward_hook(listen(name, block)) for name, block in sizes.items()]
    try:
        base(*args)
    finally:
        for handle in handles:
            handle.remove()
    return timed


def _timed(base: nn.Module, name: str, block: int, x: Tensor, dtype: torch.dtype, effort: Effort) -> Timed:
    conv, twin = get_module(base, name), block_twin(base, name, block)
    assert isinstance(conv, nn.Conv2d)
    flat = x.flatten(0, 1) if x.dim() == 5 else x
    with plain_convolutions():
        expected = torch.nn.Conv2d.forward(conv, flat)
    half = flat.to(dtype).contiguous(memory_format=torch.channels_last)
    own, two = _moved(conv, dtype), _moved(twin, dtype)
    calls: dict[str, Callable[[], Any]] = {
        "library": lambda: torch.nn.Conv2d.forward(own, half),
        "block": lambda: two(half),
    }
    failures: dict[str, str] = {}
    seconds = call_seconds(calls, x.is_cuda, effort, failures)
    return Timed(
        kernels=seconds,
        original=seconds.get("library"),
        rel_err=rel_error(expected, calls["block"]().float()),
        failures=failures,
    )


def _moved(layer: nn.Conv2d, dtype: torch.dtype) -> Any:
    """Return a copy in another type that no hook listens to."""
    made = copy.copy(layer)
    made._forward_hooks = type(layer._forward_hooks)()
    made._parameters = {
        k: p if p is None else nn.Parameter(p.detach().to(dtype), False) for k, p in layer._parameters.items()
    }
    return made
